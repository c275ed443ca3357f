"""Compiled modules whose bytes depend on the source, its path and the interpreter's version alone.

The usual cache files do not: they carry the source's time, and their format's references depend on
who else held a string while it was compiled. Without any, each start in a container would compile.
"""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pycontainer.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cache_path", "compile_sources"]

_TIMEOUT: Final = 300.0


def cache_path(path: str) -> str:
    """Where the interpreter looks for a module's compiled form."""
    return importlib.util.cache_from_source(path, optimization="")


def compile_sources(
    interpreter: Path, sources: Sequence[tuple[Path, str]], *, mtime: int
) -> list[bytes]:
    """Make the contents of cache files, on a process of its own that burdens nobody's lock.

    Args:
        interpreter: The Python that will read them.
        sources: Each module's source, and the path that it will have.
        mtime: The time that the sources will have.

    Returns:
        For each source the bytes; none where it does not compile.

    Raises:
        ImageError: The interpreter failed.
    """
    child = Path(__file__).with_name("compile_child.py")
    names = b"\0".join(bytes(source) + b"\0" + path.encode() for source, path in sources)
    try:
        done = subprocess.run(  # noqa: S603  (our own interpreter and program)
            [interpreter, "-I", "-S", "-B", "-W", "ignore", child],
            input=names,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"cannot run {interpreter} to compile modules: {error}") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ImageError(f"{interpreter} cannot compile modules: {last}")
    return [
        _header(source, mtime) + code if code else b""
        for (source, _), code in zip(sources, _split(done.stdout), strict=True)
    ]


def _split(output: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(output):
        size = int.from_bytes(output[at : at + 4], "little")
        found.append(output[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def _header(source: Path, mtime: int) -> bytes:
    """Magic, no flags, and what the import system compares: the source's time and size (PEP 552)."""
    stamp = (mtime, source.stat().st_size)
    fields = b"".join((value & 0xFFFFFFFF).to_bytes(4, "little") for value in stamp)
    return importlib.util.MAGIC_NUMBER + bytes(4) + fields
