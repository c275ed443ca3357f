"""Resources that take blobs in ("Pushing blobs")."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tornado.iostream import StreamClosedError

from pycontainer.errors import DigestMismatch
from pycontainer.registry._codes import ApiError
from pycontainer.registry._handler import Handler, Service, check_name, read_digest
from pycontainer.registry._ranges import chunk_range, received_range
from pycontainer.registry._storage import UploadBusy

if TYPE_CHECKING:
    from pycontainer.oci import Digest
    from pycontainer.registry._storage import Upload

__all__ = ["UploadHandler", "UploadsHandler"]

_BUSY_SECONDS: Final = 5.0
_BUSY_PAUSE: Final = 0.05


class _Receiver(Handler):
    """A resource whose request body goes into an upload.

    While one chunk is hashed and written by a worker thread, the next one is read.
    """

    def initialize(self, service: Service) -> None:
        super().initialize(service)
        self._upload: Upload | None = None
        self._writing: asyncio.Future[None] | None = None
        self._complete = False
        self._counted = False

    def _count(self) -> None:
        """Be one of the bodies that come in, until `_uncount`."""
        if self.service.receiving >= self.service.options.most_uploads:
            message = "too many uploads come in at once"
            raise ApiError("TOOMANYREQUESTS", message, headers={"Retry-After": "1"})
        self.service.receiving += 1
        self._counted = True

    def _uncount(self) -> None:
        self.service.receiving -= self._counted
        self._counted = False

    async def data_received(self, chunk: bytes) -> None:
        if self._upload is None or self.refused:
            return
        self.service.measures.received(len(chunk))
        if self._writing is not None:
            await asyncio.wait((self._writing,))
            if self._writing.exception() is not None:
                return  # raised by `received`, once the body is read and can be answered
        self._writing = self.submit(self._upload.write, chunk)

    async def received(self) -> Upload:
        """The upload, with the whole body in it.

        Raises:
            StreamClosedError: The client has left, and the upload was let go.
        """
        if self._upload is None:
            raise StreamClosedError
        self._complete = True
        if self._writing is not None:
            await self._writing
        return self._upload

    async def let_go(self) -> None:
        """Leave the upload to the next request."""
        upload, self._upload = self._upload, None
        if upload is not None:
            if self._writing is not None:
                await asyncio.wait((self._writing,))
            await self.run(self.leave, upload)

    def leave(self, upload: Upload) -> None:
        """What to do with an upload that this request is done with."""
        upload.close()

    async def finish_upload(self, repository: str, digest: Digest) -> None:
        """Make the upload a blob, and say so."""
        upload = await self.received()
        try:
            await self.run(upload.commit, digest)
        except DigestMismatch as error:
            detail = {"digest": str(digest)}
            raise ApiError("DIGEST_INVALID", str(error), detail=detail) from error
        self._upload = None
        self.created(repository, digest)

    def created(self, repository: str, digest: Digest) -> None:
        """Say that the repository holds a blob now."""
        self.set_status(201)
        self.set_header("Location", f"/v2/{repository}/blobs/{digest}")
        self.set_header("Docker-Content-Digest", str(digest))

    async def report(self, repository: str, status: int) -> None:
        """Say where the upload stands, and leave it to the next request."""
        upload = await self.received()
        self.set_status(status)
        for name, value in _upload_headers(repository, upload).items():
            self.set_header(name, value)
        await self.let_go()

    def on_finish(self) -> None:
        super().on_finish()
        self._uncount()
        self._abandon()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._uncount()
        if not self._complete:  # else a worker may be at it, and `on_finish` comes later
            self._abandon()

    def _abandon(self) -> None:
        if self._upload is not None:
            self.service.spawn(self.let_go())


def _upload_headers(repository: str, upload: Upload) -> dict[str, str]:
    return {
        "Location": f"/v2/{repository}/blobs/uploads/{upload.id}",
        "Range": received_range(upload.offset),
        "Docker-Upload-UUID": upload.id,
    }


class UploadsHandler(_Receiver):
    """``/v2/<name>/blobs/uploads/``: mounts a blob, takes one whole, or begins an upload."""

    def initialize(self, service: Service) -> None:
        super().initialize(service)
        self._digest: Digest | None = None
        self._mounted: Digest | None = None
        self._told = False

    def leave(self, upload: Upload) -> None:
        if self._told:
            upload.close()
        else:  # nobody knows of it
            upload.cancel()

    async def admit(self) -> None:
        if self.request.method != "POST":
            return
        repository, storage = self.path_kwargs["repository"], self.service.storage
        self._digest = self._query_digest("digest")
        mount, source = self._query_digest("mount"), self.get_query_argument("from", None)
        if mount is not None and source is not None:
            check_name(source)
            may = await self.run(self.service.guard.permits, self.identity, source, "pull")
            if may and await self.run(storage.mount_blob, source, repository, mount):
                self._mounted = mount
                return
        self._count()
        self._upload = await self.run(storage.begin_upload, repository)

    def _query_digest(self, name: str) -> Digest | None:
        text = self.get_query_argument(name, None)
        return None if text is None else read_digest(text)

    async def post(self, repository: str) -> None:
        if self._mounted is not None:
            self.created(repository, self._mounted)
        elif self._digest is not None:
            await self.finish_upload(repository, self._digest)
        else:
            self._told = True
            await self.report(repository, 202)


class UploadHandler(_Receiver):
    """``/v2/<name>/blobs/uploads/<id>``: a blob that comes in."""

    _digest: Digest

    async def admit(self) -> None:
        if self.request.method not in {"GET", "PATCH", "PUT", "DELETE"}:
            return
        repository = self.path_kwargs["repository"]
        if self.request.method == "PUT":
            self._digest = read_digest(self.get_query_argument("digest", ""))
        self._count()
        upload = self._upload = await self._resume(repository, self.path_kwargs["upload_id"])
        try:
            size = chunk_range(self.request.headers.get("Content-Range"), upload.offset)
        except ApiError as error:
            error.headers.update(_upload_headers(repository, upload))
            raise
        length = self.request.headers.get("Content-Length", "")
        if size is not None and length.isdigit() and int(length) != size:
            raise ApiError("SIZE_INVALID", f"the chunk has {length} bytes, not {size}")

    async def _resume(self, repository: str, upload_id: str) -> Upload:
        """Take hold of the upload; the request that was cut before may just be letting go."""
        deadline = asyncio.get_running_loop().time() + _BUSY_SECONDS
        while True:
            try:
                upload = await self.run(self.service.storage.resume_upload, repository, upload_id)
            except UploadBusy as error:
                late = asyncio.get_running_loop().time() > deadline
                if late or self.service.http is None:
                    message = "another request writes to this upload"
                    raise ApiError("BLOB_UPLOAD_INVALID", message, status=409) from error
                await asyncio.sleep(_BUSY_PAUSE)
                continue
            if upload is None:
                raise ApiError("BLOB_UPLOAD_UNKNOWN", f"{repository} has no such upload")
            return upload

    async def get(self, repository: str, upload_id: str) -> None:  # noqa: ARG002
        await self.report(repository, 204)

    async def patch(self, repository: str, upload_id: str) -> None:  # noqa: ARG002
        await self.report(repository, 202)

    async def put(self, repository: str, upload_id: str) -> None:  # noqa: ARG002
        await self.finish_upload(repository, self._digest)

    async def delete(self, repository: str, upload_id: str) -> None:  # noqa: ARG002
        upload = await self.received()
        await self.run(upload.cancel)
        self.set_status(204)
