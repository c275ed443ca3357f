"""Writing tar: ustar, with pax records only where ustar cannot say it; the same bytes every time."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Final, cast
from zlib import adler32

from pycontainer.errors import LayerError
from pycontainer.layers._entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FILE,
    Entry,
    InFile,
)
from pycontainer.layers._pax import decimal_time, encode_records, xattr_key
from pycontainer.layers._sparse import placed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

__all__ = ["PIECE", "fill_tar", "write_tar"]

PIECE: Final = 1 << 19
"""How many bytes are passed on together."""

_BLOCK: Final = 512
_ZEROS: Final = bytes(1024)
_HOLE: Final = bytes(1 << 16)
_NAME: Final = 100
_PREFIX: Final = 155
_OCTAL_7: Final = 0o7777777
_OCTAL_11: Final = 0o77777777777
_SECOND: Final = 1_000_000_000
_MODE_BITS: Final = 0o7777
_SPACES: Final = 8 * ord(" ")  # what the checksum counts in its own place
_DEVICES: Final = (CHARACTER_DEVICE, BLOCK_DEVICE)


def write_tar(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Make a tar stream of entries, in pieces of 512 KiB.

    Owner names, access and change times are left out, holes of sparse files are written as zeros
    (other tools read those everywhere, the sparse formats they do not), times have all their digits.

    Raises:
        LayerError: A file gave more or fewer bytes than its size.
        ValueError: An entry has what tar cannot express: a zero byte in a name, a negative number.
    """
    # One buffer does, as what is yielded are copies.
    return map(bytes, fill_tar(entries, repeat(bytearray(PIECE))))


def fill_tar(entries: Iterable[Entry], buffers: Iterator[bytearray]) -> Iterator[memoryview]:
    """Write what `write_tar` does into memory that is there, which saves making and touching it anew.

    Args:
        entries: What is written.
        buffers: Gives memory for each piece, without end; it may be used again.

    Returns:
        Each buffer when it is full; of the last one as much as was needed.
    """
    view, at = memoryview(next(buffers)), 0
    for piece in _pieces(entries):
        if isinstance(piece, Entry):
            read, size = cast("InFile", piece.content).read_into, piece.size
        else:
            end = at + len(piece)
            if end <= len(view):  # nearly always
                view[at:end] = piece
                at = end
                continue
            read, size = partial(_copy, memoryview(piece)), len(piece)
        given = 0
        while given < size:
            if at == len(view):
                yield view
                view, at = memoryview(next(buffers)), 0
            more = read(view[at : at + size - given], given)
            if not more:
                raise _changed(cast("Entry", piece), given)
            at += more
            given += more
    if at:
        yield view[:at]


def _copy(piece: memoryview, target: memoryview, at: int) -> int:
    target[:] = piece[at : at + len(target)]
    return len(target)


def _pieces(entries: Iterable[Entry]) -> Iterator[bytes | memoryview | Entry]:
    """Headers, contents and paddings; an entry stands for what is to be read from its file."""
    for entry in entries:
        yield _header(entry)
        size = entry.size
        if size and entry.kind is FILE:
            content = entry.content
            assert content is not None, "a file of more than no bytes has content"
            if type(content) is InFile:
                yield entry
            elif (given := (yield from _given(entry, content()))) != size:
                raise _changed(entry, given)
            padding = -size & (_BLOCK - 1)
            if padding:
                yield _ZEROS[:padding]
    yield _ZEROS


def _changed(entry: Entry, given: int) -> LayerError:
    return LayerError(
        f"{entry.path!r} changed while it was read: {entry.size} bytes became {given}"
    )


def _given(
    entry: Entry, content: Iterator[bytes | memoryview]
) -> Generator[bytes | memoryview, None, int]:
    """A file's bytes; returns their number."""
    given = 0
    for piece in content if entry.sparse is None else _filled(entry, content):
        given += len(piece)
        yield piece
    return given


def _filled(entry: Entry, content: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """A sparse file's bytes with its holes."""
    at = 0
    for offset, view in placed(entry.sparse or (), content):
        yield from _zeros(offset - at)
        yield view
        at = offset + len(view)
    yield from _zeros(entry.size - at)


def _zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        yield _HOLE[:size]
        size -= len(_HOLE)


def _header(entry: Entry) -> bytes:
    name = entry.path or b"."
    if entry.kind is FILE:
        size, (tail, tail_sum) = entry.size, _FILE_TAIL
    elif entry.kind is DIRECTORY:
        name += b"/"
        size, (tail, tail_sum) = 0, _DIRECTORY_TAIL
    else:
        return _full_header(entry, name, 0)
    uid, gid = entry.uid, entry.gid
    seconds, rest = divmod(entry.mtime_ns, _SECOND)
    if (
        rest
        or entry.xattrs
        or len(name) > _NAME
        or not (0 <= seconds <= _OCTAL_11 and size <= _OCTAL_11)
        or not (0 <= uid <= _OCTAL_7 and 0 <= gid <= _OCTAL_7)
        or b"\0" in name
    ):
        return _full_header(entry, name, size)
    return _block(name, entry.mode & _MODE_BITS, uid, gid, size, seconds, tail, tail_sum)


def _full_header(entry: Entry, name: bytes, size: int) -> bytes:
    link = entry.link
    if b"\0" in name or b"\0" in link:
        raise ValueError(f"a zero byte in {entry.path!r} or its link {link!r}")
    if min(entry.uid, entry.gid, size, entry.major, entry.minor) < 0:
        raise ValueError(f"a negative number in {entry!r}")
    pax = {xattr_key(key): value for key, value in entry.xattrs.items()}
    prefix = b""
    if len(name) > _NAME:
        prefix, name = _split(name, pax)
    if len(link) > _NAME:
        pax[b"linkpath"], link = link, link[:_NAME]
    uid = _fit(entry.uid, _OCTAL_7, b"uid", pax)
    gid = _fit(entry.gid, _OCTAL_7, b"gid", pax)
    size = _fit(size, _OCTAL_11, b"size", pax)
    seconds, rest = divmod(entry.mtime_ns, _SECOND)
    if rest or not 0 <= seconds <= _OCTAL_11:
        pax[b"mtime"] = decimal_time(entry.mtime_ns)
        seconds = min(max(seconds, 0), _OCTAL_11)
    major, minor = (entry.major, entry.minor) if entry.kind in _DEVICES else (0, 0)
    if max(major, minor) > _OCTAL_7:
        raise ValueError(f"tar cannot express the device numbers of {entry!r}")
    tail = _with_sum(_tail(entry.kind.value, link, major, minor, prefix))
    block = _block(name, entry.mode & _MODE_BITS, uid, gid, size, seconds, *tail)
    return _pax_header(pax) + block if pax else block


def _block(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    seconds: int,
    tail: bytes,
    tail_sum: int,
) -> bytes:
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(_NAME, b"\0"),
        mode,
        uid,
        gid,
        size,
        seconds,
    )
    # The low half of Adler-32 is one plus the sum of all bytes, as long as that stays below 65521.
    total = (adler32(head) & 0xFFFF) - 1 + _SPACES + tail_sum
    return b"%s%06o\0 %s" % (head, total, tail)


def _tail(
    flag: bytes, link: bytes = b"", major: int = 0, minor: int = 0, prefix: bytes = b""
) -> bytes:
    """All of a header that stands after its checksum; the names of owner and group stay empty."""
    device = b"%07o\0%07o\0" % (major, minor)
    fields = (flag, link.ljust(_NAME, b"\0"), b"ustar\x0000", bytes(64), device, prefix)
    return b"".join(fields).ljust(_BLOCK - 156, b"\0")


def _with_sum(tail: bytes) -> tuple[bytes, int]:
    return tail, sum(tail)


_FILE_TAIL: Final = _with_sum(_tail(FILE.value))
_PAX_TAIL: Final = _with_sum(_tail(b"x"))
_DIRECTORY_TAIL: Final = _with_sum(_tail(DIRECTORY.value))


def _split(name: bytes, pax: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """Put a long name into ustar's prefix and name if it has a slash in the right place."""
    slash = name.rfind(b"/", 0, min(_PREFIX + 1, len(name) - 1))
    if slash > 0 and len(name) - slash - 1 <= _NAME:
        return name[:slash], name[slash + 1 :]
    pax[b"path"] = name
    return b"", name[:_NAME]


def _fit(value: int, most: int, key: bytes, pax: dict[bytes, bytes]) -> int:
    if value <= most:
        return value
    pax[key] = b"%d" % value
    return 0


def _pax_header(records: dict[bytes, bytes]) -> bytes:
    body = encode_records(records)
    header = _block(b"PaxHeaders.0/entry", 0o644, 0, 0, len(body), 0, *_PAX_TAIL)
    return header + body + _ZEROS[: -len(body) % _BLOCK]
