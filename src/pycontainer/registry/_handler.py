"""What the handlers of all resources share, and what keeps them together: `Service`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tornado.iostream import IOStream, StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from pycontainer.errors import RegistryError, SpecError
from pycontainer.oci import Digest
from pycontainer.registry._codes import ApiError, format_errors, upstream_refusal
from pycontainer.registry._guard import Guard, Identity, needed
from pycontainer.registry._measures import Measures
from pycontainer.registry._names import check_repository
from pycontainer.registry._storage import Needed, StorageFailed
from pycontainer.registry._transfer import Part, send_file

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from concurrent.futures import Executor
    from typing import ParamSpec, TypeVar

    from tornado.httpserver import HTTPServer

    from pycontainer.registry._server_options import ServerOptions
    from pycontainer.registry._storage import Storage

    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = ["Handler", "Service", "check_name", "read_digest"]

_log = logging.getLogger("pycontainer.registry")

_access_log = logging.getLogger("pycontainer.registry.access")

_STOP_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.01
_READING: Final = frozenset({"GET", "HEAD"})


class Service:
    """What all handlers of a server share.

    Attributes:
        storage: What is served.
        options: What the server was told.
        guard: Checks who asks.
        measures: What is counted.
        workers: Threads for everything that blocks.
        receiving: How many request bodies are coming in.
        http: The server that gets connections back which a transfer took from it; None once it
            stops.
    """

    def __init__(self, storage: Storage, options: ServerOptions, workers: Executor) -> None:
        self.storage = storage
        self.options = options
        self.guard = Guard(options)
        self.measures = Measures()
        self.workers = workers
        self.receiving = 0
        self.active: set[Handler] = set()
        self.http: HTTPServer | None = None
        self._detached: set[IOStream] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Let something go on that no request waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def transfer(self, stream: IOStream, part: Part) -> None:
        """Send a blob's body over a connection taken from the server, and give that back."""
        if stream.closed():  # the client left; there is no socket any more
            return
        self._detached.add(stream)
        try:
            address = stream.socket.getpeername()
            sent = await send_file(stream.socket, part)
        except OSError as error:  # TimeoutError is one too
            _log.info("a client left in the middle of a blob: %r", error)
            sent = False
        except BaseException:
            stream.close()
            raise
        finally:
            self._detached.discard(stream)
        if not sent or self.http is None:
            stream.close()
        elif not stream.closed():
            self.http.handle_stream(stream, address)

    async def stop(self, grace: float) -> None:
        """Answer for so many seconds what was asked, cut all connections, and wait for the rest."""
        http, self.http = self.http, None
        if http is not None:
            http.stop()
            deadline = asyncio.get_running_loop().time() + grace
            while self.active and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(_LOOK_SECONDS)
            await http.close_all_connections()
        await asyncio.get_running_loop().run_in_executor(self.workers, self.storage.close)
        for stream in self._detached:
            if not stream.closed():
                # Closing is not enough: `send_file` has a duplicate of the socket.
                with contextlib.suppress(OSError):
                    stream.socket.shutdown(socket.SHUT_RDWR)
                stream.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_STOP_SECONDS)


@stream_request_body
class Handler(RequestHandler):
    """What all resources share: names, worker threads, errors as the specification wants them.

    Bodies are streamed everywhere, so that no request can fill the memory; one that a resource
    has no use for is read and dropped.
    """

    service: Service

    guarded = True
    """Whether who asks has to say who they are."""

    def initialize(self, service: Service) -> None:
        self.service = service
        self.refused = False
        self.identity = Identity()

    def set_default_headers(self) -> None:
        self.set_header("Server", "pycontainer")
        self.set_header("Docker-Distribution-API-Version", "registry/2.0")
        self.set_header("Content-Type", "application/json; charset=utf-8")

    def compute_etag(self) -> str | None:
        return None  # digests are better ones

    async def prepare(self) -> None:
        self.service.active.add(self)
        try:
            if "repository" in self.path_kwargs:
                check_name(self.path_kwargs["repository"])
            if self.guarded and not self.service.guard.open:
                await self._identify()
            if self.guarded and self._changes:
                self._check_changeable()
            await self.admit()
        except ApiError as error:
            if "Expect" in self.request.headers:
                raise
            # Tornado closes a connection that is answered before its request is read, and what
            # the client has still in flight makes a reset of that: it may never see the answer.
            self.refused = True
            setattr(self, str(self.request.method).lower(), partial(self._refuse, error))

    @property
    def _changes(self) -> bool:
        return self.request.method not in _READING

    def _check_changeable(self) -> None:
        options = self.service.options
        if options.upstream is not None:
            raise ApiError("UNSUPPORTED", "this registry is a cache of another: push to that")
        if options.read_only:
            raise ApiError("UNSUPPORTED", "this registry is read-only")

    async def _identify(self) -> None:
        """Find out who asks, and whether they may."""
        guard, request = self.service.guard, self.request
        wanted = needed(str(request.method), request.path, self.path_kwargs.get("repository"))
        try:
            header = request.headers.get("Authorization")
            self.identity = await self.run(guard.identify, header)
            if wanted is not None:
                await self.run(guard.check, self.identity, *wanted)
            elif self.identity == Identity():
                raise ApiError("UNAUTHORIZED", "say who you are")
        except ApiError as error:
            if error.code == "UNAUTHORIZED":
                origin = f"{request.protocol}://{request.host}"
                if self.service.options.public_url is not None:
                    origin = self.service.options.public_url.rstrip("/")
                error.headers["WWW-Authenticate"] = guard.challenge(origin, wanted)
            raise

    def on_finish(self) -> None:
        self.service.active.discard(self)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.service.active.discard(self)

    def log_access(self, size: int = 0) -> None:
        """Count an answer and write it down, in the form that web servers use."""
        request, status = self.request, self.get_status()
        seconds = request.request_time()
        self.service.active.discard(self)
        if self.service.options.metrics:
            self.service.measures.answered(str(request.method), status, seconds)
        if not _access_log.isEnabledFor(logging.INFO):
            return
        _access_log.info(
            '%s - %s "%s %s %s" %d %d "%s" %.1fms',
            request.remote_ip,
            self.identity.user or "-",
            request.method,
            request.uri,
            request.version,
            status,
            size or int(self._headers.get("Content-Length", 0)),
            request.headers.get("User-Agent", "-"),
            1000 * seconds,
        )

    async def admit(self) -> None:
        """Decide from a request's head whether it can be served.

        Raises:
            ApiError: It cannot; its body is read and dropped.
        """

    async def _refuse(self, error: ApiError, **_: str) -> None:
        raise error

    def data_received(self, chunk: bytes) -> Any:
        """Drop a body that nobody asked for."""

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that may block, off the event loop.

        Raises:
            ApiError: The upstream that it had to ask failed, or the storage.
        """
        with self._failures():
            return await self.submit(call, *args, **kwargs)

    async def look(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Look for something: at once if the storage is quick, since to change threads takes longer.

        Raises:
            ApiError: As for `run`.
        """
        if self.service.storage.pace != "quick":
            return await self.run(call, *args, **kwargs)
        with self._failures():
            return call(*args, **kwargs)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except RegistryError as error:
            _log.warning("%s %s: %s", self.request.method, self.request.uri, error)
            raise upstream_refusal(error) from error
        except StorageFailed as error:
            _log.exception("%s %s", self.request.method, self.request.uri)
            raise ApiError("UNKNOWN", "the registry's storage fails", status=503) from error

    async def delete_by(
        self, delete: Callable[[str, Digest], bool], repository: str, digest: Digest
    ) -> bool:
        """Delete something of a repository, if nothing needs it."""
        try:
            return await self.run(delete, repository, digest)
        except Needed as error:
            raise ApiError("UNSUPPORTED", str(error), detail={"digest": str(digest)}) from error

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


def check_name(repository: str) -> None:
    try:
        check_repository(repository)
    except SpecError as error:
        raise ApiError("NAME_INVALID", str(error)) from error


def read_digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except SpecError as error:
        raise ApiError("DIGEST_INVALID", str(error), detail={"digest": text[:200]}) from error
