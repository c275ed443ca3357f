"""What a command sees beside the image's files while it runs: ``RUN --mount``."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen
from typing_extensions import override

from pycontainer.build._cache_mounts import Sharing, cache_directory
from pycontainer.build._graph import Result, State
from pycontainer.build._ssh import forwarded, key_agent
from pycontainer.errors import BuildError
from pycontainer.oci.runtime import Mount
from pycontainer.snapshots import Driver, TreeView, ensure_directory, prepare

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from pycontainer.build._work import Work

__all__ = [
    "BindMount",
    "CacheMount",
    "Place",
    "RunMount",
    "ScriptMount",
    "SecretMount",
    "SshMount",
    "TmpfsMount",
]


@frozen
class Place:
    """Where mounts are made for one command.

    Attributes:
        work: The build's surroundings.
        others: What the further inputs of the command's vertex gave.
        directory: A directory of its own, as long as the command runs.
        stack: Takes what has to be undone afterwards.
        env: Variables for the command.
    """

    work: Work
    others: Sequence[Result]
    directory: Path
    stack: ExitStack
    env: dict[str, str] = field(factory=dict)

    def new(self, name: str) -> Path:
        """A path in the directory that nothing has yet."""
        place = self.directory / "mounts"
        place.mkdir(exist_ok=True)
        return place / f"{len(list(place.iterdir()))}-{name}"


@frozen
class RunMount(ABC):
    """One mount of a command.

    Attributes:
        target: Where it is seen, an absolute path; empty where it is not seen as a file.
    """

    target: str

    @abstractmethod
    def mounts(self, place: Place) -> Sequence[Mount]:
        """Make what is mounted.

        Raises:
            BuildError: What it asks for is not there.
        """

    def depends(self, others: Sequence[Result]) -> object:
        """What a cache key has of it, beside its definition; plain values."""
        return [len(others)]


@frozen
class BindMount(RunMount):
    """Files of the context, a stage or an image; what is written there is dropped.

    Attributes:
        source: The file or directory.
        writable: Whether the command may write.
        origin: Number of the input that holds it: a state of one layer with the files to be seen.
    """

    source: str
    writable: bool
    origin: int

    @override
    def mounts(self, place: Place) -> Sequence[Mount]:
        state = place.others[self.origin]
        assert isinstance(state, State)
        if not state.layers:  # an empty directory
            path = place.new("empty")
            path.mkdir()
        elif self.writable:
            path = _copy(state, self.source, place)
        else:
            path = _host_path(state, self.source, place.work)
        options = ("rbind", "rw") if self.writable else ("rbind", "ro")
        return [Mount(self.target, "bind", str(path), options)]

    @override
    def depends(self, others: Sequence[Result]) -> object:
        state = others[self.origin]
        assert isinstance(state, State)
        return state.chain_id


@frozen
class CacheMount(RunMount):
    """A directory that is kept from build to build.

    Attributes:
        id: What the cache is called; empty for its target.
        sharing: Who may use it at the same time.
        mode: Of a new one.
        owner: User and group id of a new one.
        source: What a new one begins with: a directory of the input `origin`.
        origin: Number of that input; None to begin with an empty directory.
        writable: Whether the command may write.
    """

    id: str = ""
    sharing: Sharing = "shared"
    mode: int = 0o755
    owner: tuple[int, int] = (0, 0)
    source: str = "/"
    origin: int | None = None
    writable: bool = True

    @override
    def mounts(self, place: Place) -> Sequence[Mount]:
        work = place.work
        directory = place.stack.enter_context(
            cache_directory(
                work.store,
                self.id or self.target,
                self.sharing,
                fill=partial(self._fill, place),
                waiting=work.cancellation.check,
            )
        )
        options = ("bind", "rw") if self.writable else ("bind", "ro")
        return [Mount(self.target, "bind", str(directory), options)]

    def _fill(self, place: Place, directory: Path) -> None:
        state = State() if self.origin is None else place.others[self.origin]
        assert isinstance(state, State)
        if state.layers:
            made = _copy(state, self.source, place)
            directory.rmdir()
            made.rename(directory)
        directory.chmod(self.mode)
        _give(directory, self.owner)


@frozen
class TmpfsMount(RunMount):
    """An empty directory in memory.

    Attributes:
        size: The most that it holds, bytes; 0 for the kernel's limit.
    """

    size: int = 0

    @override
    def mounts(self, place: Place) -> Sequence[Mount]:
        size = [f"size={self.size}"] if self.size else []
        options = ("nosuid", "nodev", "mode=1777", *size)
        return [Mount(self.target, "tmpfs", "tmpfs", options)]


@frozen
class ScriptMount(RunMount):
    """A script that a Dockerfile holds.

    Attributes:
        content: Its text.
    """

    content: str

    @override
    def mounts(self, place: Place) -> Sequence[Mount]:
        path = place.new("script")
        path.write_text(self.content, newline="")
        path.chmod(0o755)
        return [Mount(self.target, "bind", str(path), ("bind", "ro"))]


@frozen
class SecretMount(RunMount):
    """A secret, as a file or a variable; where it is not needed and not there, nothing.

    Attributes:
        id: What it is called.
        env: The variable; empty for none.
        required: Whether the command cannot do without it.
        mode: Of the file.
        owner: User and group id of the file.
    """

    id: str
    env: str = ""
    required: bool = False
    mode: int = 0o400
    owner: tuple[int, int] = (0, 0)

    @override
    def mounts(self, place: Place) -> Sequence[Mount]:
        content = self._content(place.work)
        if content is None:
            return []
        if self.env:
            if b"\0" in content:
                raise BuildError(f"the secret {self.id} holds a NUL byte, which no variable can")
            place.env[self.env] = os.fsdecode(content)
        if not self.target:
            return []
        path = place.new("secret")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
        path.chmod(self.mode)
        _give(path, self.owner)
        return [Mount(self.target, "bind", str(path), ("bind", "ro", "nosuid", "nodev", "noexec"))]

    def _content(self, work: Work) -> bytes | None:
        secret = work.secrets.get(self.id)
        try:
            return secret.read_bytes() if isinstance(secret, Path) else self._given(secret)
        except OSError as error:
            raise BuildError(f"the secret {self.id} cannot be read: {error}") from error

    def _given(self, secret: bytes | None) -> bytes | None:
        if secret is None and self.required:
            raise BuildError(
                f"the secret {self.id} is required and was not given",
                remedy=f"build with secrets={{{self.id!r}: …}}",
            )
        return secret


@frozen
class SshMount(RunMount):
    """The socket of an SSH agent: one that runs, or one that holds given keys.

    Attributes:
        id: What it is called.
        required: Whether the command cannot do without it.
        mode: Of the socket.
        owner: User and group id of the socket.
    """

    id: str = "default"
    required: bool = False
    mode: int = 0o600
    owner: tuple[int, int] = (0, 0)

    @override
    def mounts(self, place: Place) -> Sequence[Mount]:
        paths = place.work.ssh.get(self.id, ())
        if not paths:
            if self.required:
                raise BuildError(
                    f"the SSH agent {self.id} is required and was not given",
                    remedy=f"build with ssh={{{self.id!r}: PATH_OF_SOCKET_OR_KEY}}",
                )
            return []
        for path in paths:
            if not path.exists():
                raise BuildError(f"the SSH agent {self.id}: there is no socket or key {path}")
        directory = place.new("ssh")
        directory.mkdir()
        if any(path.is_socket() for path in paths):
            agent, *others = paths
            if others:
                raise BuildError(f"the SSH agent {self.id} is one socket, or keys; not both")
        else:
            keys = place.new("keys")
            keys.mkdir(mode=0o700)
            agent = place.stack.enter_context(key_agent(paths, keys, self.id))
        socket = place.stack.enter_context(
            forwarded(agent, directory, mode=self.mode, owner=self.owner)
        )
        place.env.setdefault("SSH_AUTH_SOCK", self.target)
        return [Mount(self.target, "bind", str(socket), ("bind",))]


def _host_path(state: State, source: str, work: Work) -> Path:
    """Where on this machine a file or directory of the topmost layer is."""
    layer = state.layers[-1]
    directory = ensure_directory(work.store, layer.descriptor, layer.diff_id)
    node = TreeView([directory]).lookup(source)
    if node is None:
        raise BuildError(f"mount: there is no {source} in what is mounted")
    return node.host_path


def _copy(state: State, source: str, place: Place) -> Path:
    """A copy that may be written to."""
    for layer in state.layers:
        ensure_directory(place.work.store, layer.descriptor, layer.diff_id)
    snapshot = prepare(place.work.store, state.diff_ids, place.new("copy"), driver=Driver.COPY)
    assert snapshot.plan.path is not None
    found = _host_path(state, source, place.work)
    root = _host_path(state, "/", place.work)
    return Path(snapshot.plan.path) / found.relative_to(root)


def _give(path: Path, owner: tuple[int, int]) -> None:
    if os.geteuid() == 0:
        os.chown(path, *owner)
