"""The HTTP face of the registry server: the distribution specification 1.1 over a `Storage`."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from pycontainer.errors import DigestMismatch, SpecError
from pycontainer.oci import Digest, media_types
from pycontainer.registry import _manifests
from pycontainer.registry._codes import ApiError, format_errors
from pycontainer.registry._names import check_repository, check_target
from pycontainer.registry._pages import page_of
from pycontainer.registry._ranges import chunk_range, received_range, requested_range
from pycontainer.registry._storage import UploadBusy
from pycontainer.registry._transfer import send_file

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor
    from typing import ParamSpec, TypeVar

    from tornado.httpserver import HTTPServer

    from pycontainer.registry._storage import Storage, Upload

    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = ["ROUTES", "NotFoundHandler", "Service"]

_log = logging.getLogger("pycontainer.registry")

_OCTETS: Final = "application/octet-stream"
_READ: Final = 256 << 10
_BUSY_SECONDS: Final = 5.0
_BUSY_PAUSE: Final = 0.05
_STOP_SECONDS: Final = 10.0


class Service:
    """What all handlers of a server share.

    Attributes:
        storage: What is served.
        workers: Threads for everything that blocks.
        http: The server that gets connections back which a transfer took from it; None once it
            stops.
    """

    def __init__(self, storage: Storage, workers: Executor) -> None:
        self.storage = storage
        self.workers = workers
        self.http: HTTPServer | None = None
        self._detached: set[IOStream] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Let something go on that no request waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def transfer(self, stream: IOStream, file: BinaryIO, start: int, end: int) -> None:
        """Send a blob's body over a connection taken from the server, and give that back."""
        self._detached.add(stream)
        try:
            sent = await send_file(stream, file, start, end)
        except BaseException:
            stream.close()
            raise
        finally:
            self._detached.discard(stream)
        if not sent or self.http is None:
            stream.close()
        elif not stream.closed():
            self.http.handle_stream(stream, stream.socket.getpeername())

    async def stop(self) -> None:
        """Cut all connections and wait for what their requests had begun."""
        http, self.http = self.http, None
        if http is not None:
            http.stop()
            await http.close_all_connections()
        for stream in self._detached:
            stream.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_STOP_SECONDS)


@stream_request_body
class _Handler(RequestHandler):
    """What all resources share: names, worker threads, errors as the specification wants them.

    Bodies are streamed everywhere, so that no request can fill the memory; one that a resource
    has no use for is read and dropped.
    """

    service: Service

    def initialize(self, service: Service) -> None:
        self.service = service

    def set_default_headers(self) -> None:
        self.set_header("Server", "pycontainer")
        self.set_header("Docker-Distribution-API-Version", "registry/2.0")
        self.set_header("Content-Type", "application/json; charset=utf-8")

    def compute_etag(self) -> str | None:
        return None  # digests are better ones

    async def prepare(self) -> None:
        self._check_names()

    def _check_names(self) -> None:
        if "repository" in self.path_kwargs:
            try:
                check_repository(self.path_kwargs["repository"])
            except SpecError as error:
                raise ApiError("NAME_INVALID", str(error)) from error

    def data_received(self, chunk: bytes) -> Any:
        """Drop a body that nobody asked for."""

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that may block, off the event loop."""
        return await self.submit(call, *args, **kwargs)

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Begin to call something that may block."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self.service.workers, lambda: call(*args, **kwargs))

    def send_json(self, document: object) -> None:
        self.write(json.dumps(document, separators=(",", ":")).encode() + b"\n")

    def send_error_of(self, error: ApiError) -> None:
        self.set_status(error.status)
        for name, value in error.headers.items():
            self.set_header(name, value)
        self.finish(format_errors(error))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if not isinstance(error, ApiError):
            code = {404: "NAME_UNKNOWN", 405: "UNSUPPORTED"}.get(status_code, "UNKNOWN")
            error = ApiError(code, self._reason.lower(), status=status_code)
        self.send_error_of(error)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, ApiError | HTTPError):
            _log.info("%s %s: %s", self.request.method, self.request.uri, value)
        elif not isinstance(value, StreamClosedError):
            _log.error("%s %s", self.request.method, self.request.uri, exc_info=(typ, value, tb))


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except SpecError as error:
        raise ApiError("DIGEST_INVALID", str(error), detail={"digest": text[:200]}) from error


class NotFoundHandler(_Handler):
    """Everything that is no resource of the specification."""

    async def prepare(self) -> None:
        raise ApiError("UNSUPPORTED", "there is no such resource", status=404)


class BaseHandler(_Handler):
    """``/v2/``: a registry is here."""

    async def get(self) -> None:
        self.send_json({})

    head = get


class CatalogHandler(_Handler):
    """``/v2/_catalog``: names of the repositories (Docker's extension)."""

    async def get(self) -> None:
        names = await self.run(self.service.storage.repositories)
        n, last = self.get_query_argument("n", None), self.get_query_argument("last", None)
        page, link = page_of(names, "/v2/_catalog", n=n, last=last)
        if link is not None:
            self.set_header("Link", link)
        self.send_json({"repositories": page})


class TagsHandler(_Handler):
    """``/v2/<name>/tags/list``."""

    async def get(self, repository: str) -> None:
        tags = await self.run(self.service.storage.tags, repository)
        if tags is None:
            raise ApiError("NAME_UNKNOWN", "no such repository", detail={"name": repository})
        n, last = self.get_query_argument("n", None), self.get_query_argument("last", None)
        page, link = page_of(tags, f"/v2/{repository}/tags/list", n=n, last=last)
        if link is not None:
            self.set_header("Link", link)
        self.send_json({"name": repository, "tags": page})


class ReferrersHandler(_Handler):
    """``/v2/<name>/referrers/<digest>``."""

    async def get(self, repository: str, digest: str) -> None:
        wanted = self.get_query_argument("artifactType", None)
        index = await self.run(
            _manifests.referrers_index, self.service.storage, repository, _digest(digest), wanted
        )
        self.set_header("Content-Type", media_types.OCI_INDEX)
        if wanted is not None:
            self.set_header("OCI-Filters-Applied", "artifactType")
        self.write(index)


class ManifestHandler(_Handler):
    """``/v2/<name>/manifests/<tag or digest>``."""

    def initialize(self, service: Service) -> None:
        super().initialize(service)
        self._body = bytearray()
        self._size = 0

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= _manifests.LARGEST_MANIFEST:
            self._body += chunk

    async def get(self, repository: str, target: str) -> None:
        stored = await self.run(self.service.storage.manifest, repository, self._target(target))
        if stored is None:
            raise ApiError(
                "MANIFEST_UNKNOWN",
                f"{repository} has no manifest {target}",
                detail={"name": repository, "reference": target},
            )
        self.set_header("Content-Type", stored.media_type)
        self.set_header("Content-Length", str(len(stored.data)))
        self.set_header("Docker-Content-Digest", str(stored.digest))
        self.set_header("Etag", f'"{stored.digest}"')
        self.write(stored.data)

    head = get

    async def put(self, repository: str, target: str) -> None:
        if self._size > _manifests.LARGEST_MANIFEST:
            limit = _manifests.LARGEST_MANIFEST
            raise ApiError("SIZE_INVALID", f"a manifest may have {limit} bytes", status=413)
        content_type = self.request.headers.get("Content-Type", "")
        received = _manifests.receive(bytes(self._body), content_type, self._target(target))
        await self.run(_manifests.store, self.service.storage, repository, received)
        digest = received.stored.digest
        self.set_status(201)
        self.set_header("Location", f"/v2/{repository}/manifests/{digest}")
        self.set_header("Docker-Content-Digest", str(digest))
        if received.document.subject is not None:
            self.set_header("OCI-Subject", str(received.document.subject.digest))

    async def delete(self, repository: str, target: str) -> None:
        storage, name = self.service.storage, self._target(target)
        if isinstance(name, Digest):
            found = await self.run(storage.delete_manifest, repository, name)
        else:
            found = await self.run(storage.delete_tag, repository, name)
        if not found:
            raise ApiError("MANIFEST_UNKNOWN", f"{repository} has no manifest {target}")
        self.set_status(202)

    def _target(self, text: str) -> str | Digest:
        if ":" in text:
            return _digest(text)
        try:
            return check_target(text)
        except SpecError as error:
            raise ApiError("TAG_INVALID", str(error), detail={"tag": text[:200]}) from error


class BlobHandler(_Handler):
    """``/v2/<name>/blobs/<digest>``."""

    async def head(self, repository: str, digest: str) -> None:
        size = await self.run(self.service.storage.blob_size, repository, _digest(digest))
        if size is None:
            raise _no_blob(repository, digest)
        self._describe(digest, size)

    async def get(self, repository: str, digest: str) -> None:
        file = await self.run(self.service.storage.open_blob, repository, _digest(digest))
        if file is None:
            raise _no_blob(repository, digest)
        with file:
            size = await self.run(file.seek, 0, 2)
            part = self._part(size)
            start, end = part or (0, size)
            self._describe(digest, end - start)
            if self.check_etag_header():
                self.set_status(304)
                return
            if part is not None:
                self.set_status(206)
                self.set_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            await self._send(file, start, end)

    async def delete(self, repository: str, digest: str) -> None:
        if not await self.run(self.service.storage.delete_blob, repository, _digest(digest)):
            raise _no_blob(repository, digest)
        self.set_status(202)

    def _part(self, size: int) -> tuple[int, int] | None:
        try:
            return requested_range(self.request.headers.get("Range"), size)
        except ApiError as error:
            error.headers["Content-Range"] = f"bytes */{size}"
            raise

    def _describe(self, digest: str, length: int) -> None:
        self.set_header("Content-Type", _OCTETS)
        self.set_header("Content-Length", str(length))
        self.set_header("Docker-Content-Digest", digest)
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Etag", f'"{digest}"')
        self.set_header("Cache-Control", "max-age=31536000, immutable")

    async def _send(self, file: BinaryIO, start: int, end: int) -> None:
        if end - start > _READ and self._takes_descriptor():
            await self.flush()
            await self.service.transfer(self.detach(), file, start, end)
            return
        await self.run(file.seek, start)
        while start < end:
            chunk = await self.run(file.read, min(_READ, end - start))
            if not chunk:
                raise EOFError("a blob is shorter than it was when its reading began")
            self.write(chunk)
            await self.flush()
            start += len(chunk)

    def _takes_descriptor(self) -> bool:
        """Whether the body can go from a file to the socket, and the connection live on."""
        stream = getattr(self.request.connection, "stream", None)
        close = self.request.headers.get("Connection", "").lower() == "close"
        return (
            isinstance(stream, IOStream)
            and not isinstance(stream, SSLIOStream)
            and self.request.version == "HTTP/1.1"
            and not close
        )


def _no_blob(repository: str, digest: str) -> ApiError:
    return ApiError("BLOB_UNKNOWN", f"{repository} holds no such blob", detail={"digest": digest})


class _Receiver(_Handler):
    """A resource whose request body goes into an upload.

    While one chunk is hashed and written by a worker thread, the next one is read.
    """

    def initialize(self, service: Service) -> None:
        super().initialize(service)
        self._upload: Upload | None = None
        self._writing: asyncio.Future[None] | None = None

    async def data_received(self, chunk: bytes) -> None:
        if self._upload is not None:
            await self._written()
            self._writing = self.submit(self._upload.write, chunk)

    async def _written(self) -> None:
        """Wait until the body is in the upload as far as it was read."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def _let_go(self) -> None:
        """Leave the upload to the next request."""
        upload, self._upload = self._upload, None
        if upload is not None:
            try:
                await self._written()
            finally:
                await self.run(upload.close)

    async def _finish_upload(self, repository: str, digest: Digest) -> None:
        assert self._upload is not None
        await self._written()
        try:
            await self.run(self._upload.commit, digest)
        except DigestMismatch as error:
            detail = {"digest": str(digest)}
            raise ApiError("DIGEST_INVALID", str(error), detail=detail) from error
        self._created(repository, digest)

    def _created(self, repository: str, digest: Digest) -> None:
        self.set_status(201)
        self.set_header("Location", f"/v2/{repository}/blobs/{digest}")
        self.set_header("Docker-Content-Digest", str(digest))

    def _accepted(self, repository: str, upload: Upload, status: int) -> None:
        self.set_status(status)
        for name, value in _upload_headers(repository, upload).items():
            self.set_header(name, value)

    def on_finish(self) -> None:
        self._abandon()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._abandon()

    def _abandon(self) -> None:
        if self._upload is not None:
            self.service.spawn(self._let_go())


def _upload_headers(repository: str, upload: Upload) -> dict[str, str]:
    return {
        "Location": f"/v2/{repository}/blobs/uploads/{upload.id}",
        "Range": received_range(upload.offset),
        "Docker-Upload-UUID": upload.id,
    }


class UploadsHandler(_Receiver):
    """``/v2/<name>/blobs/uploads/``: mounts a blob, takes one whole, or begins an upload."""

    async def prepare(self) -> None:
        await super().prepare()
        self._mounted: Digest | None = None
        if self.request.method != "POST":
            return
        repository = self.path_kwargs["repository"]
        self._digest = self._query_digest("digest")
        mount, source = self._query_digest("mount"), self.get_query_argument("from", None)
        storage = self.service.storage
        if mount is not None and source is not None:
            try:
                check_repository(source)
            except SpecError as error:
                raise ApiError("NAME_INVALID", str(error)) from error
            if await self.run(storage.mount_blob, source, repository, mount):
                self._mounted = mount
                return
        self._upload = await self.run(storage.begin_upload, repository)

    def _query_digest(self, name: str) -> Digest | None:
        text = self.get_query_argument(name, None)
        return None if text is None else _digest(text)

    async def post(self, repository: str) -> None:
        if self._mounted is not None:
            self._created(repository, self._mounted)
        elif self._digest is not None:
            await self._finish_upload(repository, self._digest)
        else:
            assert self._upload is not None
            await self._written()
            self._accepted(repository, self._upload, 202)
            await self._let_go()


class UploadHandler(_Receiver):
    """``/v2/<name>/blobs/uploads/<id>``: a blob that comes in."""

    async def prepare(self) -> None:
        await super().prepare()
        if self.request.method not in {"GET", "PATCH", "PUT", "DELETE"}:
            return
        repository = self.path_kwargs["repository"]
        if self.request.method == "PUT":
            self._digest = _digest(self.get_query_argument("digest", ""))
        upload = await self._resume(repository, self.path_kwargs["upload_id"])
        self._upload = upload
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
        assert self._upload is not None
        self._accepted(repository, self._upload, 204)
        await self._let_go()

    async def patch(self, repository: str, upload_id: str) -> None:  # noqa: ARG002
        assert self._upload is not None
        await self._written()
        self._accepted(repository, self._upload, 202)
        await self._let_go()

    async def put(self, repository: str, upload_id: str) -> None:  # noqa: ARG002
        await self._finish_upload(repository, self._digest)

    async def delete(self, repository: str, upload_id: str) -> None:  # noqa: ARG002
        assert self._upload is not None
        await self._written()
        await self.run(self._upload.cancel)
        self.set_status(204)


_NAME: Final = "(?P<repository>.+)"
ROUTES: Final = (
    (r"/v2/?", BaseHandler),
    (r"/v2/_catalog", CatalogHandler),
    (rf"/v2/{_NAME}/tags/list", TagsHandler),
    (rf"/v2/{_NAME}/referrers/(?P<digest>[^/]+)", ReferrersHandler),
    (rf"/v2/{_NAME}/blobs/uploads/?", UploadsHandler),
    (rf"/v2/{_NAME}/blobs/uploads/(?P<upload_id>[^/]+)", UploadHandler),
    (rf"/v2/{_NAME}/blobs/(?P<digest>[^/]+)", BlobHandler),
    (rf"/v2/{_NAME}/manifests/(?P<target>[^/]+)", ManifestHandler),
)
