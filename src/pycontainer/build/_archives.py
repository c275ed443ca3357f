"""Archives that ADD unpacks: tars, plain or compressed with gzip, bzip2, xz or zstd."""

from __future__ import annotations

import bz2
import io
import lzma
import tempfile
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from pycontainer.errors import BuildError, LayerError
from pycontainer.layers import decompress, unpack
from pycontainer.oci import Compression

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from typing_extensions import Buffer

    from pycontainer.build._work import Work

__all__ = ["is_archive", "unpacked"]

_CHUNK: Final = 1 << 18
_BLOCK: Final = 512
_BZIP2: Final = b"BZh"
_XZ: Final = b"\xfd7zXZ\x00"


def is_archive(path: Path) -> bool:
    """Whether a file is a tar, compressed or not, by its beginning."""
    try:
        with path.open("rb") as file:
            beginning = b""
            for piece in _plain(file):
                beginning += piece
                if len(beginning) >= _BLOCK:
                    break
    except (OSError, EOFError, ValueError, LayerError, lzma.LZMAError):
        return False
    return _is_header(beginning[:_BLOCK])


def unpacked(path: Path, work: Work) -> Path:
    """A directory with what an archive holds; the build's end removes it.

    Raises:
        BuildError: The archive is damaged.
    """
    root = Path(tempfile.mkdtemp(prefix="archive-", dir=work.scratch))
    root.chmod(0o755)
    try:
        with path.open("rb") as file:
            unpack(_Reader(_plain(file)), root, compression=Compression.NONE, whiteouts="apply")
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise BuildError(f"the archive {path.name} cannot be unpacked: {error}") from error
    except LayerError as error:
        message = f"the archive {path.name} cannot be unpacked: {error.message}"
        raise BuildError(message, remedy=error.remedy) from error
    return root


def _plain(file: BinaryIO) -> Iterator[bytes]:
    """The tar's bytes."""
    chunks = iter(partial(file.read, _CHUNK), b"")
    first = next(chunks, b"")
    rest = chain([first], chunks)
    if first.startswith((_BZIP2, _XZ)):
        file.seek(0)
        kind = bz2.BZ2File if first.startswith(_BZIP2) else lzma.LZMAFile
        return iter(partial(kind(file).read, _CHUNK), b"")
    return (bytes(piece) for piece in decompress(rest))


def _is_header(block: bytes) -> bool:
    """Whether a block is a tar's first: its checksum is right (pax(1), ustar Interchange Format)."""
    if len(block) < _BLOCK:
        return False
    text = block[148:156].replace(b"\0", b" ").strip()
    if not text or text.strip(b"01234567"):
        return False
    return int(text, 8) == sum(block[:148]) + 8 * ord(" ") + sum(block[156:])


class _Reader(io.RawIOBase):
    """A file of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
