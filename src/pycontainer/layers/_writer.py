"""Writing tar: ustar, with pax records only where ustar cannot say it; the same bytes every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import adler32

from pycontainer.errors import LayerError
from pycontainer.layers._entry import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["write_tar"]

_BLOCK: Final = 512
_ZEROS: Final = bytes(1024)
_CHUNK: Final = 1 << 18
_OCTAL_7: Final = 0o7777777
_OCTAL_11: Final = 0o77777777777
_SECOND: Final = 1_000_000_000
_MAGIC: Final = b"ustar\x0000" + bytes(64)  # magic, version, and no names of owner and group
_PAX_NAME: Final = b"PaxHeaders.0/entry"


def write_tar(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Make a tar stream of entries, in pieces of about 256 KiB.

    Times become whole seconds where they are that, else pax records; owner names, access and change
    times are left out.

    Raises:
        LayerError: A file gave more or fewer bytes than its size.
    """
    pending: list[bytes] = []
    size = 0
    for entry in entries:
        header = _header(entry)
        pending.append(header)
        size += len(header)
        if entry.kind is Kind.FILE and entry.size:
            given = 0
            for piece in _contents(entry):
                given += len(piece)
                pending.append(bytes(piece) if isinstance(piece, memoryview) else piece)
                size += len(piece)
                if size >= _CHUNK:
                    yield b"".join(pending)
                    pending, size = [], 0
            if given != entry.size:
                raise LayerError(
                    f"{entry.path!r} changed while it was read: {entry.size} bytes became {given}"
                )
            padding = -given % _BLOCK
            pending.append(_ZEROS[:padding])
            size += padding
    pending.append(_ZEROS)
    yield b"".join(pending)


def _contents(entry: Entry) -> Iterator[bytes | memoryview]:
    """A file's bytes, holes filled in: that other tools read everywhere, the sparse formats not."""
    assert entry.content is not None
    if entry.sparse is None:
        yield from entry.content()
        return
    at = 0
    pieces = iter(entry.sparse)
    offset, left = 0, 0
    for data in entry.content():
        view = memoryview(data)
        while view:
            while not left:
                offset, left = next(pieces)
            yield from _holes(offset - at)
            piece = view[:left]
            yield piece
            view, left, offset = view[len(piece) :], left - len(piece), offset + len(piece)
            at = offset
    yield from _holes(entry.size - at)


def _holes(size: int) -> Iterator[bytes]:
    while size > 0:
        yield bytes(min(size, _CHUNK))
        size -= _CHUNK


def _header(entry: Entry) -> bytes:
    pax: dict[str, bytes] = {}
    name = entry.path or b"."
    if entry.kind is Kind.DIRECTORY:
        name += b"/"
    prefix = b""
    if len(name) > 100:
        prefix, name = _split(name, pax)
    link = entry.link
    if len(link) > 100:
        pax["linkpath"] = link
        link = link[:100]
    uid = _fit(entry.uid, _OCTAL_7, "uid", pax)
    gid = _fit(entry.gid, _OCTAL_7, "gid", pax)
    size = _fit(entry.size, _OCTAL_11, "size", pax)
    seconds, rest = divmod(entry.mtime_ns, _SECOND)
    if rest or not 0 <= seconds <= _OCTAL_11:
        pax["mtime"] = _decimal_time(entry.mtime_ns)
        seconds = min(max(seconds, 0), _OCTAL_11)
    for key, value in entry.xattrs.items():
        pax["SCHILY.xattr." + key] = value
    header = _block(
        name, entry.kind.value, entry.mode, uid, gid, size, seconds, link, entry, prefix
    )
    return _pax_header(pax) + header if pax else header


def _split(name: bytes, pax: dict[str, bytes]) -> tuple[bytes, bytes]:
    """Put a long name into ustar's prefix and name if it has a slash in the right place."""
    slash = name.rfind(b"/", 0, min(156, len(name) - 1))
    if slash > 0 and len(name) - slash - 1 <= 100:
        return name[:slash], name[slash + 1 :]
    pax["path"] = name
    return b"", name[:100]


def _fit(value: int, most: int, key: str, pax: dict[str, bytes]) -> int:
    if value <= most:
        return value
    pax[key] = b"%d" % value
    return 0


def _decimal_time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    whole, rest = divmod(abs(nanoseconds), _SECOND)
    return b"%s%d" % (sign, whole) + (b".%09d" % rest).rstrip(b"0").rstrip(b".")


def _block(
    name: bytes,
    flag: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    seconds: int,
    link: bytes,
    entry: Entry | None = None,
    prefix: bytes = b"",
) -> bytes:
    major, minor = (entry.major, entry.minor) if entry is not None else (0, 0)
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0%011o\0%011o\0        " % (mode, uid, gid, size, seconds),
            flag,
            link.ljust(100, b"\0"),
            _MAGIC,
            b"%07o\0%07o\0" % (major, minor),
            prefix.ljust(167, b"\0"),
        )
    )
    total = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2
    return b"%s%06o\0 %s" % (block[:148], total, block[156:])


def _pax_header(records: Mapping[str, bytes]) -> bytes:
    body = b"".join(
        _record(key.encode("utf-8", "surrogateescape"), records[key]) for key in sorted(records)
    )
    header = _block(_PAX_NAME, b"x", 0o644, 0, 0, len(body), 0, b"")
    return header + body + _ZEROS[: -len(body) % _BLOCK]


def _record(key: bytes, value: bytes) -> bytes:
    r"""``length key=value\\n``, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) + rest != length:
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
