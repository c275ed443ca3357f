"""``python -m pycontainer registry``: a registry on the command line, until it is interrupted."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pycontainer.content import Store
from pycontainer.errors import RegistryError
from pycontainer.images import Registry
from pycontainer.registry import ANONYMOUS, S3Bucket, ServerOptions, Upstream, read_htpasswd

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "registry"]

Place = str | Store | S3Bucket


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        "path", nargs="?", help="what keeps what is pushed: a directory, or s3://BUCKET/PREFIX"
    )
    parser.add_argument("--endpoint", metavar="URL", help="of the object store, if not Amazon's")
    parser.add_argument(
        "--store",
        nargs="?",
        const="",
        metavar="PATH",
        help="serve the images of a store instead (of the default one without PATH), and push to it",
    )
    parser.add_argument("--address", default="127.0.0.1:5000", metavar="HOST:PORT")
    parser.add_argument("--users", metavar="FILE", help="made by `htpasswd -B`; else all may all")
    parser.add_argument(
        "--public", action="store_true", help="with --users: everybody may pull, users push"
    )
    parser.add_argument("--tokens", action="store_true", help="give Bearer tokens to users")
    parser.add_argument(
        "--token-key",
        metavar="FILE",
        help="random bytes that servers share which take each other's tokens",
    )
    parser.add_argument(
        "--public-url",
        metavar="URL",
        help="by what clients reach it, if something before it speaks TLS",
    )
    parser.add_argument("--certificate", metavar="FILE", help="PEM chain, to speak TLS")
    parser.add_argument("--key", metavar="FILE", help="its key")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument(
        "--upstream",
        metavar="HOST",
        help="be a cache: fetch from there what is not held, and keep it",
    )
    parser.add_argument(
        "--upstream-login",
        action="store_true",
        help="ask there in the name that Docker's configuration of this user has",
    )
    parser.add_argument(
        "--upstream-age",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="for which a tag counts as known (60)",
    )
    parser.add_argument(
        "--upstream-keep",
        type=float,
        metavar="SECONDS",
        help="after which what nobody has asked for goes (never)",
    )
    parser.add_argument(
        "--access-log", action="store_true", help="write each request to the standard error"
    )
    parser.add_argument("--metrics", action="store_true", help="show /metrics for Prometheus")
    parser.add_argument(
        "--grace", type=float, default=10.0, help="seconds for requests at the end (10)"
    )
    parser.add_argument(
        "--collect",
        action="store_true",
        help="take away what no manifest needs, and end; servers may go on meanwhile",
    )


def registry(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, or collect."""
    host, _, port = arguments.address.rpartition(":")
    if not port.isdigit():
        raise RegistryError(f"{arguments.address!r} is no address", remedy="HOST:PORT")
    if bool(arguments.certificate) != bool(arguments.key):
        raise RegistryError("a certificate needs its key", remedy="--certificate FILE --key FILE")
    if (arguments.path is None) == (arguments.store is None):
        raise RegistryError("say what is to be served: a directory, or --store")
    with ExitStack() as stack:
        return _serve(_place(arguments, stack), (host.strip("[]"), int(port)), arguments)


def _place(arguments: argparse.Namespace, stack: ExitStack) -> Place:
    """What is served; a store is closed with the stack."""
    if arguments.store is None:
        path = str(arguments.path)
        return S3Bucket.parse(path, endpoint=arguments.endpoint) if _is_s3(path) else path
    return stack.enter_context(Store.open(arguments.store or None))


def _is_s3(path: str) -> bool:
    return path.startswith("s3://")


def _serve(place: Place, address: tuple[str, int], arguments: argparse.Namespace) -> int:
    if arguments.collect:
        return _collect(place)
    if arguments.access_log:
        _show_requests()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with Registry.serve(place, address=address, options=_options(arguments)) as server:
        shown = place.path if isinstance(place, Store) else place
        print(f"serving {shown} at {server.url}", flush=True)
        ended.wait()
        server.close(grace=arguments.grace)
    return 0


def _show_requests() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("pycontainer.registry.access")
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def _collect(place: Place) -> int:
    with Registry.serve(place, options=ServerOptions(read_only=True)) as server:
        done = server.collect()
    print(f"{done.links} links and {done.blobs} blobs of {done.freed} bytes are gone")
    return 0


def _options(arguments: argparse.Namespace) -> ServerOptions:
    if arguments.public and not arguments.users:
        print("--public says nothing without --users", file=sys.stderr)
    return ServerOptions(
        users=read_htpasswd(arguments.users) if arguments.users else {},
        authorize=_public if arguments.public and arguments.users else None,
        tokens=arguments.tokens,
        token_key=_read_key(arguments.token_key) if arguments.token_key else None,
        public_url=arguments.public_url,
        certificate=(arguments.certificate, arguments.key) if arguments.certificate else None,
        read_only=arguments.read_only,
        metrics=arguments.metrics,
        upstream=_upstream(arguments),
    )


def _read_key(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RegistryError(f"cannot read the key {path}: {error.strerror}") from error


def _upstream(arguments: argparse.Namespace) -> Upstream | None:
    if not arguments.upstream:
        return None
    return Upstream(
        host=arguments.upstream,
        credentials=None if arguments.upstream_login else ANONYMOUS,
        age=arguments.upstream_age,
        keep=arguments.upstream_keep,
    )


def _public(user: str | None, repository: str, action: str) -> bool:  # noqa: ARG001
    return user is not None or action == "pull"
