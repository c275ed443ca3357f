"""An object store that speaks S3, in a process of its own: moto's server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import boto3

from pycontainer.registry import S3Bucket

__all__ = ["ObjectStore"]

_PROGRAM = """
import logging, sys
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server(
    "127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True
)
print(server.port, flush=True)
server.serve_forever()
"""


class ObjectStore:
    """Answers at `url` as Amazon's S3 does; a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        port = re.fullmatch(r"(\d+)\n", self._process.stdout.readline())
        assert port is not None
        self.url = f"http://127.0.0.1:{port[1]}"
        self._number = 0

    def bucket(self) -> S3Bucket:
        """A new bucket, with a prefix in it."""
        self._number += 1
        name = f"registry-{self._number}"
        with self.client() as client:
            client.create_bucket(Bucket=name)
        return S3Bucket(name, "some/where", self.url, "us-east-1")

    def keys(self, bucket: S3Bucket) -> set[str]:
        """Keys of the objects of a bucket, without the prefix."""
        with self.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
            found = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        assert all(key.startswith(f"{bucket.prefix}/") for key in found)
        return {key.removeprefix(f"{bucket.prefix}/") for key in found}

    def unfinished(self, bucket: S3Bucket) -> int:
        """How many objects that come in parts are not finished."""
        with self.client() as client:
            return len(client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", ()))

    @contextmanager
    def client(self) -> Iterator[Any]:
        client = boto3.session.Session().client(
            "s3", endpoint_url=self.url, region_name="us-east-1"
        )
        try:
            yield client
        finally:
            client.close()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
