"""The other programs, and the root file system that both sides work on."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from pycontainer.runtime import seccomp
from pycontainer.runtime._seccomp_model import ALLOW

__all__ = [
    "call",
    "minbase",
    "registry",
    "runc_bundle",
    "runc_container",
    "scratch",
    "skopeo",
    "tree",
]

_CACHE = Path(__file__).parents[1] / ".cache"
_REGISTRY_SECONDS = 10
_SCRATCH_BYTES = 8 << 30
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}


def call(*command: str | Path) -> None:
    """Run a program to its end; what it says is shown only if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stdout}")


@contextlib.contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    """Give an empty directory to measure in.

    Args:
        parent: Where to make it; None for a new ext4 in memory where this user may mount one: disks,
            and file systems that have seen much, differ by more than programs do.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=parent) as place:
        if parent is not None or os.geteuid() != 0:
            yield Path(place)
            return
        with tempfile.NamedTemporaryFile(prefix="benchmark-", dir="/dev/shm") as image:
            image.truncate(_SCRATCH_BYTES)
            call("mkfs.ext4", "-q", image.name)
            call("mount", "-o", "loop", image.name, place)
            try:
                yield Path(place)
            finally:
                call("umount", place)


def minbase() -> Path:
    """Return a tar of a small Debian system (170 MB, 9,000 files), made on first use."""
    path = _CACHE / "minbase.tar"
    if not path.exists():
        _CACHE.mkdir(exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}.tar")
        call("mmdebstrap", "--variant=minbase", "--quiet", "bookworm", new)
        new.rename(path)
    return path


def tree(archive: Path, directory: Path) -> Path:
    """Return the directory made and filled from a tar."""
    directory.mkdir()
    call("tar", "-xf", archive, "-C", directory)
    return directory


def runc_bundle(
    directory: Path, rootfs: Path, command: Sequence[str], *, filtered: bool = False
) -> Path:
    """Return a bundle as `runc spec` makes it, with this root and command and no terminal.

    Args:
        directory: Where to make it.
        rootfs: The root file system.
        command: What it executes.
        filtered: Add a seccomp filter that allows the calls which ours allows.
    """
    directory.mkdir()
    call("runc", "spec", "--bundle", directory)
    config = directory / "config.json"
    spec = json.loads(config.read_text())
    spec["root"] = {"path": str(rootfs), "readonly": False}
    spec["process"] |= {"terminal": False, "args": list(command)}
    if filtered:
        spec["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": _ARCHITECTURES[platform.machine()],
            "syscalls": [{"names": _allowed_calls(), "action": "SCMP_ACT_ALLOW"}],
        }
    config.write_text(json.dumps(spec))
    return directory


def _allowed_calls() -> list[str]:
    rules = seccomp.default_profile().rules
    allowed = (r for r in rules if r.action == ALLOW and not r.condition.capabilities)
    return sorted({name for rule in allowed for name in rule.names})


@contextlib.contextmanager
def runc_container(bundle: Path) -> Iterator[str]:
    """Run a bundle in the background; gives the container's name."""
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    with open(os.devnull, "r+b") as null:
        command = ["runc", "run", "--detach", "--bundle", str(bundle), name]
        subprocess.run(command, stdin=null, stdout=null, stderr=null, check=True)
    try:
        yield name
    finally:
        call("runc", "delete", "--force", name)


def skopeo(*arguments: str | Path) -> None:
    """Run skopeo without signature policy or TLS."""
    call("skopeo", "--insecure-policy", *arguments)


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Run Debian's docker-registry; gives its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = directory / "registry.json"  # YAML takes JSON
    storage = {"filesystem": {"rootdirectory": str(directory / "registry")}}
    config.write_text(
        json.dumps({"version": 0.1, "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}})
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await_port(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + _REGISTRY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
