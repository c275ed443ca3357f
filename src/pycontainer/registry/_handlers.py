"""The resources of the distribution specification 1.1 over a `Storage`, but for uploads."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError

from pycontainer.errors import SpecError
from pycontainer.oci import Digest, media_types
from pycontainer.registry import _manifests
from pycontainer.registry._codes import ApiError
from pycontainer.registry._handler import Handler, Service, read_digest
from pycontainer.registry._names import check_target
from pycontainer.registry._pages import in_order, page_of
from pycontainer.registry._ranges import requested_range
from pycontainer.registry._transfer import Part
from pycontainer.registry._upload_handlers import UploadHandler, UploadsHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ROUTES", "NotFoundHandler"]

_OCTETS: Final = "application/octet-stream"
_READ: Final = 256 << 10
_LARGEST_FORM: Final = 64 << 10


class NotFoundHandler(Handler):
    """Everything that is no resource of the specification."""

    async def admit(self) -> None:
        raise ApiError("UNSUPPORTED", "there is no such resource", status=404)


class BaseHandler(Handler):
    """``/v2/``: a registry is here."""

    async def get(self) -> None:
        self.send_json({})

    head = get


class CatalogHandler(Handler):
    """``/v2/_catalog``: names of the repositories (Docker's extension)."""

    async def get(self) -> None:
        names = await self.run(self.service.storage.repositories)
        n, last = self.get_query_argument("n", None), self.get_query_argument("last", None)
        page, link = page_of(names, "/v2/_catalog", n=n, last=last)
        if link is not None:
            self.set_header("Link", link)
        self.send_json({"repositories": page})


class TagsHandler(Handler):
    """``/v2/<name>/tags/list``."""

    async def get(self, repository: str) -> None:
        tags = await self.run(self.service.storage.tags, repository)
        if tags is None:
            raise ApiError("NAME_UNKNOWN", "no such repository", detail={"name": repository})
        n, last = self.get_query_argument("n", None), self.get_query_argument("last", None)
        page, link = page_of(
            sorted(tags, key=in_order), f"/v2/{repository}/tags/list", n=n, last=last
        )
        if link is not None:
            self.set_header("Link", link)
        self.send_json({"name": repository, "tags": page})


class ReferrersHandler(Handler):
    """``/v2/<name>/referrers/<digest>``."""

    async def get(self, repository: str, digest: str) -> None:
        wanted = self.get_query_argument("artifactType", None)
        index = await self.run(
            _manifests.referrers_index,
            self.service.storage,
            repository,
            read_digest(digest),
            wanted,
        )
        self.set_header("Content-Type", media_types.OCI_INDEX)
        if wanted is not None:
            self.set_header("OCI-Filters-Applied", "artifactType")
        self.write(index)


class ManifestHandler(Handler):
    """``/v2/<name>/manifests/<tag or digest>``."""

    def initialize(self, service: Service) -> None:
        super().initialize(service)
        self._body = bytearray()
        self._size = 0

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= self.service.options.largest_manifest:
            self._body += chunk

    async def get(self, repository: str, target: str) -> None:
        stored = await self.look(self.service.storage.manifest, repository, self._target(target))
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
        if self.request.method == "GET":
            self.service.measures.sent(len(stored.data))
        self.write(stored.data)

    head = get

    async def put(self, repository: str, target: str) -> None:
        self.service.measures.received(self._size)
        limit = self.service.options.largest_manifest
        if self._size > limit:
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
            found = await self.delete_by(storage.delete_manifest, repository, name)
        else:
            found = await self.run(storage.delete_tag, repository, name)
        if not found:
            raise ApiError("MANIFEST_UNKNOWN", f"{repository} has no manifest {target}")
        self.set_status(202)

    def _target(self, text: str) -> str | Digest:
        if ":" in text:
            return read_digest(text)
        try:
            return check_target(text)
        except SpecError as error:
            raise ApiError("TAG_INVALID", str(error), detail={"tag": text[:200]}) from error


class BlobHandler(Handler):
    """``/v2/<name>/blobs/<digest>``."""

    async def head(self, repository: str, digest: str) -> None:
        size = await self.run(self.service.storage.blob_size, repository, read_digest(digest))
        if size is None:
            raise _no_blob(repository, digest)
        self._describe(digest, size)

    async def get(self, repository: str, digest: str) -> None:
        part = await self.look(self._open, repository, read_digest(digest))
        if part is None:
            raise _no_blob(repository, digest)
        with part.file:
            asked = self._asked(part.size)
            if asked is not None:
                part.limit(*asked)
            self._describe(digest, part.end - part.start)
            if self.check_etag_header():
                self.set_status(304)
                return
            if asked is not None:
                self.set_status(206)
                self.set_header("Content-Range", f"bytes {part.start}-{part.end - 1}/{part.size}")
            with contextlib.suppress(StreamClosedError):  # the client has left
                await self._send(part)

    def _open(self, repository: str, digest: Digest) -> Part | None:
        blob = self.service.storage.open_blob(repository, digest)
        return None if blob is None else Part(blob)

    async def delete(self, repository: str, digest: str) -> None:
        delete = self.service.storage.delete_blob
        if not await self.delete_by(delete, repository, read_digest(digest)):
            raise _no_blob(repository, digest)
        self.set_status(202)

    def _asked(self, size: int) -> tuple[int, int] | None:
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

    async def _send(self, part: Part) -> None:
        length = part.end - part.start
        self.service.measures.sent(length)
        if length > _READ and part.has_descriptor and self._takes_descriptor():
            await self.flush()
            await self.service.transfer(self.detach(), part)
            self.log_access(length)
            return
        start = part.start
        while start < part.end:
            length = min(_READ, await part.until(start) - start)
            chunk = part.read_at_once(start, length)
            if chunk is None:
                chunk = await self.run(part.read, start, length)
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


class TokenHandler(Handler):
    """``/token``: a token for a name and a password ("Token Authentication", OAuth 2 as well)."""

    guarded = False

    def initialize(self, service: Service) -> None:
        super().initialize(service)
        self._body = b""

    def data_received(self, chunk: bytes) -> None:
        self._body = (self._body + chunk)[:_LARGEST_FORM]

    async def admit(self) -> None:
        if not self.service.options.tokens:
            raise ApiError("UNSUPPORTED", "this registry gives no tokens", status=404)

    async def get(self) -> None:
        header = self.request.headers.get("Authorization", "")
        scheme, _, value = header.partition(" ")
        user = None
        if scheme.lower() == "basic":
            user = await self._user(self.service.guard.user_of, value.strip())
        await self._give(user, self.get_query_arguments("scope"))

    async def post(self) -> None:
        form = parse_qs(self._body.decode("utf-8", "replace"))
        if form.get("grant_type") != ["password"]:
            raise ApiError("UNSUPPORTED", "only passwords are taken for tokens", status=400)
        name, password = (form.get(key, [""])[0] for key in ("username", "password"))
        if not await self.run(self.service.guard.password_is, name, password):
            raise ApiError("UNAUTHORIZED", "the name or the password is wrong")
        await self._give(name, form.get("scope", []))

    async def _user(self, look: Callable[[str], str | None], basic: str) -> str | None:
        try:
            return await self.run(look, basic)
        except ApiError as error:
            error.headers["WWW-Authenticate"] = 'Basic realm="pycontainer"'
            raise

    async def _give(self, user: str | None, scopes: Sequence[str]) -> None:
        words = [scope for text in scopes for scope in text.split()]
        token = await self.run(self.service.guard.make_token, user, words)
        seconds = self.service.options.token_seconds
        self.set_header("Cache-Control", "no-store")
        self.send_json({"token": token, "access_token": token, "expires_in": seconds})


class MetricsHandler(Handler):
    """``/metrics``: what Prometheus reads."""

    guarded = False

    async def get(self) -> None:
        if not self.service.options.metrics:
            raise ApiError("UNSUPPORTED", "this registry shows no metrics", status=404)
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.service.measures.uploads.set(self.service.receiving)
        self.write(self.service.measures.text())


_NAME: Final = "(?P<repository>.+)"
# The first that fits counts, so what is asked for most comes first.
ROUTES: Final = (
    (rf"/v2/{_NAME}/manifests/(?P<target>[^/]+)", ManifestHandler),
    (rf"/v2/{_NAME}/blobs/uploads/?", UploadsHandler),
    (rf"/v2/{_NAME}/blobs/(?P<digest>[^/]+)", BlobHandler),
    (rf"/v2/{_NAME}/blobs/uploads/(?P<upload_id>[^/]+)", UploadHandler),
    (r"/v2/?", BaseHandler),
    (r"/token", TokenHandler),
    (r"/metrics", MetricsHandler),
    (r"/v2/_catalog", CatalogHandler),
    (rf"/v2/{_NAME}/tags/list", TagsHandler),
    (rf"/v2/{_NAME}/referrers/(?P<digest>[^/]+)", ReferrersHandler),
)
