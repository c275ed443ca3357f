"""A program that compiles Python sources; run by a fresh interpreter, see `bytecode`.

It reads pairs of a source's path and the path that it will have, and writes for each its length and
its bytes: the code, or nothing where the source does not compile.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys
from types import CodeType

_VERSION = 2  # the last format without references, whose bytes depend on nothing but the code


def main() -> None:
    """Work until the input ends."""
    names = sys.stdin.buffer.read().split(b"\0")
    output = sys.stdout.buffer
    for source, path in zip(names[::2], names[1::2], strict=False):
        code = _code(os.fsdecode(source), os.fsdecode(path))
        data = b"" if code is None else marshal.dumps(code, _VERSION)
        output.write(len(data).to_bytes(4, "little") + data)
    output.flush()


def _code(source: str, path: str) -> CodeType | None:
    try:
        code = _cached(source)
    except (OSError, ValueError, EOFError, TypeError):
        code = None
    if code is not None and code.co_filename == path:
        return code
    with open(source, "rb") as file:
        text = file.read()
    try:
        return compile(text, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _cached(source: str) -> CodeType | None:
    """The code in a source's cache file, if that is up to date by time and size (PEP 552)."""
    with open(importlib.util.cache_from_source(source, optimization=""), "rb") as file:
        data = file.read()
    status = os.stat(source)
    stamp = b"".join(
        (value & 0xFFFFFFFF).to_bytes(4, "little")
        for value in (int(status.st_mtime), status.st_size)
    )
    if data[:16] != importlib.util.MAGIC_NUMBER + bytes(4) + stamp:
        return None
    code = marshal.loads(data[16:])  # noqa: S302  (what the interpreter itself would run)
    return code if isinstance(code, CodeType) else None


if __name__ == "__main__":
    main()
