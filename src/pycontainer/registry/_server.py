"""A registry inside this process: an HTTP server on a thread of its own."""

from __future__ import annotations

import os
import socket
import threading
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pycontainer.errors import RegistryError, UnsupportedFeature
from pycontainer.registry._files import FileStorage
from pycontainer.registry._s3_bucket import S3Bucket
from pycontainer.registry._server_options import ServerOptions
from pycontainer.registry._storage import CacheStorage, StorageFailed
from pycontainer.registry._upstream import ProxyStorage

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import ModuleType, TracebackType

    from pycontainer.registry._storage import Collected, Storage

__all__ = ["RegistryServer", "serve"]

_BACKLOG: Final = 128
_DEFER_SECONDS: Final = 5


def serve(
    place: str | os.PathLike[str] | S3Bucket | Storage,
    *,
    address: tuple[str, int] = ("127.0.0.1", 0),
    options: ServerOptions | None = None,
) -> RegistryServer:
    """Serve a registry until the result is closed.

    Args:
        place: Where blobs, manifests and tags are kept: a directory, made if it is not there; a
            bucket, which must be; or a storage.
        address: Where to listen; port 0 takes a free one.
        options: Users, TLS, limits and the like; see `ServerOptions`.

    Raises:
        RegistryError: The address cannot be listened at, the directory cannot be written, or the
            certificate not be read; or the storage cannot be a cache, and `options` name an upstream.
        UnsupportedFeature: Tornado is not installed (the extra ``server``).
    """
    options = options or ServerOptions()
    storage = _storage(place)
    if options.upstream is not None:
        if not isinstance(storage, CacheStorage):
            raise RegistryError(
                "a store cannot be a cache of another registry", remedy="give it a directory"
            )
        storage = ProxyStorage(storage, options.upstream)
    tls = _tls(options)
    sock = _listen(address)
    try:
        return RegistryServer(storage, sock, options, tls)
    except BaseException:
        sock.close()
        raise


def _storage(place: str | os.PathLike[str] | S3Bucket | Storage) -> Storage:
    if isinstance(place, S3Bucket):
        return _s3_storage(place)
    if not isinstance(place, str | os.PathLike):
        return place
    try:
        return FileStorage(Path(place))
    except OSError as error:
        raise RegistryError(f"cannot serve a registry from {place}: {error.strerror}") from error


def _s3_storage(bucket: S3Bucket) -> Storage:
    try:
        from pycontainer.registry._s3 import S3Storage
    except ImportError as error:
        raise UnsupportedFeature(
            "keeping a registry in S3", str(error), remedy="pip install 'pycontainer[server,s3]'"
        ) from error
    try:
        return S3Storage(bucket)
    except StorageFailed as error:
        raise RegistryError(f"cannot serve a registry from {bucket}: {error}") from error


def _tls(options: ServerOptions) -> ssl.SSLContext | None:
    if options.certificate is None:
        return None
    import ssl

    chain, key = options.certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(chain, key)
    except OSError as error:  # SSLError is one
        raise RegistryError(f"cannot use the certificate {chain} with {key}: {error}") from error
    return context


def _listen(address: tuple[str, int]) -> socket.socket:
    try:
        family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        sock = socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        raise RegistryError(
            f"cannot serve a registry at {address[0]}:{address[1]}: {error}",
            remedy="port 0 takes a free port",
        ) from error
    sock.setblocking(False)
    # A connection is accepted with its first bytes, which `_http` looks at.
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
    return sock


class RegistryServer:
    """A registry that is being served; a context manager. Made by `serve`.

    Attributes:
        host: ``address:port``, as references name it.
        url: The same with ``http://`` or ``https://`` in front.
    """

    def __init__(
        self,
        storage: Storage,
        sock: socket.socket,
        options: ServerOptions,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.host = _host_of(sock)
        self.url = f"{'http' if tls is None else 'https'}://{self.host}"
        self._storage = storage
        self._thread = _Thread(storage, sock, options, tls)
        self._thread.start()
        # Also at exit, where a daemon thread must not be left in the middle of a request.
        self._finalizer = weakref.finalize(self, self._thread.stop)

    def collect(self, *, young: float = 3600.0, untagged: bool = False) -> Collected:
        """Take away what no manifest needs any more, while the server goes on.

        A push sends blobs first and their manifest last; so what has come lately stays.

        Args:
            young: Seconds for which blobs stay in a repository without a manifest that needs them.
            untagged: Whether manifests go that no tag leads to, by an index or by their subject.

        Raises:
            RegistryError: The bucket cannot be used; calling it again goes on.
        """
        try:
            return self._storage.collect(young=young, untagged=untagged)
        except StorageFailed as error:
            raise RegistryError(f"cannot collect: {error}") from error

    def close(self, *, grace: float = 0.0) -> None:
        """Take no more connections, cut those there are, and end the thread. Twice is fine.

        Args:
            grace: Seconds for requests that have come to be answered before that.
        """
        self._thread.grace = grace
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        finalizer = getattr(self, "_finalizer", None)
        if finalizer is not None and finalizer.alive:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            self.close()

    def __repr__(self) -> str:
        return f"RegistryServer({self.url!r})"


def _host_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Thread:
    """The server's thread; it does not know the `RegistryServer`, which may be collected."""

    def __init__(
        self,
        storage: Storage,
        sock: socket.socket,
        options: ServerOptions,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.grace = 0.0
        self._storage = storage
        self._sock = sock
        self._options = options
        self._tls = tls
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._end: Callable[[float], None] | None = None
        self._thread = threading.Thread(target=self._run, name="pycontainer-registry", daemon=True)

    def start(self) -> None:
        """Start the thread and wait until it serves."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """End the thread."""
        if self._end is not None:
            self._end(self.grace)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            with self._sock:
                _import_http().run(
                    self._storage, self._sock, self._options, self._tls, self._serving
                )
        except BaseException as error:
            if self._started.is_set():
                raise
            self._failure = error
        finally:
            self._storage.close()
            self._started.set()

    def _serving(self, end: Callable[[float], None]) -> None:
        self._end = end
        self._started.set()


def _import_http() -> ModuleType:
    """The part that needs Tornado, which is not there without the extra ``server``."""
    try:
        from pycontainer.registry import _http
    except ImportError as error:
        raise UnsupportedFeature(
            "serving a registry", str(error), remedy="pip install 'pycontainer[server]'"
        ) from error
    return _http
