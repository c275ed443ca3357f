"""Objects of a bucket, by boto3: the few calls that a registry needs, with types.

Amazon's S3 and what is like it show each write to all who read or list afterwards; that is relied on.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import boto3
from attrs import frozen
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pycontainer.registry._storage import StorageFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontainer.registry._s3_bucket import S3Bucket

__all__ = ["Listed", "Objects", "S3File"]

_ABSENT: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})
_CONNECTIONS: Final = 80


@frozen
class Listed:
    """An object as a list or a HEAD describes it.

    Attributes:
        key: Its key, without the registry's prefix.
        size: Bytes.
        changed: When it was written last, in seconds since the epoch by the object store's clock.
    """

    key: str
    size: int
    changed: float


class Objects:
    """The objects beneath a prefix of a bucket; safe for many threads."""

    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket.name
        self._prefix = f"{bucket.prefix}/" if bucket.prefix else ""
        config = Config(
            max_pool_connections=_CONNECTIONS,
            retries={"mode": "standard", "max_attempts": 5},
            # What is like S3 does not always know its newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with self._failures("connect"):
            self._client: Any = boto3.session.Session().client(
                "s3",
                endpoint_url=bucket.endpoint,
                region_name=bucket.region,
                config=config,
            )

    def now(self) -> float:
        """The object store's time; fails if the bucket cannot be used.

        Raises:
            StorageFailed: As all calls: it cannot be reached, or refuses.
        """
        with self._failures("use the bucket"):
            answer = self._client.head_bucket(Bucket=self._bucket)
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return parsedate_to_datetime(headers["date"]).timestamp()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # --- whole objects -----------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """An object's bytes; None if it is not there."""
        with self._failures(f"read {key}"):
            try:
                return bytes(self._client.get_object(**self._at(key))["Body"].read())
            except ClientError as error:
                if _is_absent(error):
                    return None
                raise

    def put(self, key: str, data: bytes) -> None:
        """Write an object: whole, or not at all."""
        with self._failures(f"write {key}"):
            self._client.put_object(**self._at(key), Body=data)

    def head(self, key: str) -> Listed | None:
        """Describe an object; None if it is not there."""
        with self._failures(f"look for {key}"):
            try:
                answer = self._client.head_object(**self._at(key))
            except ClientError as error:
                if _is_absent(error):
                    return None
                raise
        return Listed(key, answer["ContentLength"], answer["LastModified"].timestamp())

    def open(self, key: str) -> S3File | None:
        """Open an object for reading; None if it is not there."""
        found = self.head(key)
        return None if found is None else S3File(self, key, found.size)

    def read(self, key: str, start: int) -> Any:
        """Begin to read an object from a byte on: a stream to be closed."""
        with self._failures(f"read {key}"):
            return self._client.get_object(**self._at(key), Range=f"bytes={start}-")["Body"]

    def copy(self, source: str, target: str) -> None:
        """Copy an object, within the object store."""
        with self._failures(f"copy {source}"):
            # In parts where it is large, one after the other: there are threads enough.
            self._client.copy(
                self._at(source), **self._at(target), Config=TransferConfig(use_threads=False)
            )

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is deleted."""
        with self._failures(f"delete {key}"):
            self._client.delete_object(**self._at(key))

    # --- lists -------------------------------------------------------------------------------

    def list(self, prefix: str) -> Iterator[Listed]:
        """The objects whose keys begin so, by key."""
        for page in self._pages("list_objects_v2", prefix):
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                yield Listed(key, entry["Size"], entry["LastModified"].timestamp())

    def directories(self, prefix: str) -> Iterator[str]:
        """What stands between a prefix, which ends with a slash, and the next slash."""
        for page in self._pages("list_objects_v2", prefix, Delimiter="/"):
            for entry in page.get("CommonPrefixes", ()):
                yield entry["Prefix"].removeprefix(self._prefix + prefix).rstrip("/")

    def _pages(self, call: str, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        with self._failures(f"list {prefix}"):
            yield from self._client.get_paginator(call).paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix, **options
            )

    # --- in parts ----------------------------------------------------------------------------

    def begin_parts(self, key: str) -> str:
        """Begin an object that comes in parts; returns the id of that."""
        with self._failures(f"begin {key}"):
            return str(self._client.create_multipart_upload(**self._at(key))["UploadId"])

    def put_part(self, key: str, upload: str, number: int, data: bytes) -> str | None:
        """Write a part, of 5 MiB at least unless it is the last; returns its tag.

        None if that upload is over.
        """
        with self._failures(f"write a part of {key}"):
            try:
                answer = self._client.upload_part(
                    **self._at(key), UploadId=upload, PartNumber=number, Body=data
                )
            except ClientError as error:
                if _is_absent(error):
                    return None
                raise
        return str(answer["ETag"])

    def finish_parts(self, key: str, upload: str, tags: Sequence[str]) -> bool:
        """Make an object of just these parts; False if that upload is over."""
        parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
        with self._failures(f"finish {key}"):
            try:
                self._client.complete_multipart_upload(
                    **self._at(key), UploadId=upload, MultipartUpload={"Parts": parts}
                )
            except ClientError as error:
                if _is_absent(error):
                    return False
                raise
        return True

    def abort_parts(self, key: str, upload: str) -> None:
        """Discard the parts of an object; one that is over is left alone."""
        with self._failures(f"abort {key}"):
            try:
                self._client.abort_multipart_upload(**self._at(key), UploadId=upload)
            except ClientError as error:
                if not _is_absent(error):
                    raise

    def unfinished(self, prefix: str) -> Iterator[tuple[str, str, float]]:
        """Objects that come in parts: key, upload id, when it was begun."""
        for page in self._pages("list_multipart_uploads", prefix):
            for entry in page.get("Uploads", ()):
                key = entry["Key"].removeprefix(self._prefix)
                yield key, entry["UploadId"], entry["Initiated"].timestamp()

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise StorageFailed(f"cannot {what} in the bucket {self._bucket}: {error}") from error


def _is_absent(error: ClientError) -> bool:
    return error.response["Error"]["Code"] in _ABSENT


class S3File(io.RawIOBase):
    """An object as a file to be read, at best from its beginning to its end."""

    def __init__(self, objects: Objects, key: str, size: int) -> None:
        super().__init__()
        self.size = size
        self._objects = objects
        self._key = key
        self._offset = 0
        self._stream: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = 0, /) -> int:
        target = offset + (0, self._offset, self.size)[whence]
        if target != self._offset:
            self._drop()
            self._offset = target
        return target

    def read(self, n: int = -1, /) -> bytes:
        if self._offset >= self.size:
            return b""
        if self._stream is None:
            self._stream = self._objects.read(self._key, self._offset)
        try:
            data = bytes(self._stream.read(None if n < 0 else n))
        except BotoCoreError as error:
            raise StorageFailed(f"cannot read {self._key}: {error}") from error
        self._offset += len(data)
        return data

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def close(self) -> None:
        self._drop()
        super().close()
