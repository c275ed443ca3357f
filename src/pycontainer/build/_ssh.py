"""SSH agents for commands: the one that runs, or one for a command's time that holds given keys."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Final, Self

from pycontainer.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["forwarded", "key_agent"]

_PATIENCE: Final = 30.0
_SOCKET: Final = "agent"
_REPORT: Final = 'echo "$SSH_AGENT_PID" && exec cat'
"""What the agent waits for: it ends when its standard input does, with this program at the latest."""


@contextlib.contextmanager
def key_agent(keys: Sequence[Path], directory: Path, name: str) -> Iterator[Path]:
    """The socket of an OpenSSH agent that knows keys and nothing else, as long as the block runs.

    Args:
        keys: Files with private keys.
        directory: A directory of its own.
        name: What errors call it.

    Raises:
        BuildError: OpenSSH is not installed, or a key cannot be read or needs a passphrase.
    """
    # A path relative to the working directory is short enough for a socket (unix(7)) in any store.
    command = ["ssh-agent", "-a", _SOCKET, "sh", "-c", _REPORT]
    env = {**os.environ, "SSH_AUTH_SOCK": _SOCKET, "SSH_ASKPASS_REQUIRE": "never"}
    try:
        process = subprocess.Popen(  # noqa: S603  (OpenSSH by its name; the words are constants)
            command,
            cwd=directory,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise BuildError(
            f"the SSH keys {name} need the program ssh-agent: {error}",
            remedy="install OpenSSH's client, or give the socket of a running agent",
        ) from error
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        pid = int(process.stdout.readline() or 0)
        try:
            for key in keys:
                _add(key, directory, env, name)
            yield directory / _SOCKET
        finally:
            # By itself the agent notices only within ten seconds that its parent has ended. As long as that
            # runs, nobody else can have the number.
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            process.stdin.close()


def _add(key: Path, directory: Path, env: dict[str, str], name: str) -> None:
    try:
        content = key.read_bytes()
    except OSError as error:
        raise BuildError(f"the SSH key {name} cannot be read: {error}") from error
    # Without a terminal ssh-add cannot ask for a passphrase, and fails instead.
    done = subprocess.run(
        ["ssh-add", "-q", "-"],  # noqa: S607
        cwd=directory,
        env=env,
        input=content,
        capture_output=True,
        check=False,
        timeout=_PATIENCE,
        start_new_session=True,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise BuildError(
            f"the SSH key {name} in {key} cannot be used: {said}",
            remedy="give the file of a private key without a passphrase, or the socket of an agent",
        )


@contextlib.contextmanager
def forwarded(agent: Path, directory: Path, *, mode: int, owner: tuple[int, int]) -> Iterator[Path]:
    """A socket of a mode and owner that leads to an agent's, as long as the block runs.

    Agents answer nobody but their own user and root: so it is this program that talks to them.

    Args:
        agent: The agent's socket.
        directory: A directory of its own.
        mode: Permissions of the new socket.
        owner: User and group id of the new socket; only root gives away files.
    """
    with (
        socket.socket(socket.AF_UNIX) as listener,
        _Forwarder(listener, agent) as forwarder,
    ):
        path = directory / _SOCKET
        with _short(path) as name:
            listener.bind(name)
        path.chmod(mode)
        if os.geteuid() == 0:
            os.chown(path, *owner)
        listener.listen()
        forwarder.start()
        yield path


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of a socket for this process that is not too long (108 bytes, unix(7))."""
    fd = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


class _Forwarder:
    """A thread that connects whoever comes to a listening socket with an agent."""

    def __init__(self, listener: socket.socket, agent: Path) -> None:
        self._listener = listener
        self._agent = agent
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="ssh-agent", daemon=True)
        self._selector = selectors.DefaultSelector()

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._stopped.close()
        self._selector.close()

    def _serve(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stopped, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in self._selector.select()]
            if self._stopped in ready:
                break
            for end in ready:
                if end is self._listener:
                    self._connect()
                elif end in self._selector.get_map():  # not closed with its other end just now
                    self._pass_on(end)
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()

    def _connect(self) -> None:
        client, _ = self._listener.accept()
        agent = socket.socket(socket.AF_UNIX)
        try:
            with _short(self._agent) as name:
                agent.connect(name)
        except OSError:  # the agent is gone: who asks finds the connection closed
            client.close()
            agent.close()
            return
        self._selector.register(client, selectors.EVENT_READ, data=agent)
        self._selector.register(agent, selectors.EVENT_READ, data=client)

    def _pass_on(self, end: object) -> None:
        assert isinstance(end, socket.socket)
        other = self._selector.get_key(end).data
        try:
            data = end.recv(1 << 16)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for each in (end, other):
            self._selector.unregister(each)
            each.close()
