"""Tar archives made by hand, so that tests of the reader do not lean on our own writer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: bytes,
    flag: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    major: int = 0,
    minor: int = 0,
    prefix: bytes = b"",
    rest: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """A header block; numbers given as bytes are put into their field as they are."""
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            _octal(mode, 8),
            _octal(uid, 8),
            _octal(gid, 8),
            _octal(size, 12),
            _octal(mtime, 12),
            b" " * 8,
            flag,
            link.ljust(100, b"\0"),
            magic,
            bytes(64),
            _octal(major, 8),
            _octal(minor, 8),
            (prefix or rest).ljust(167, b"\0"),
        )
    )
    assert len(block) == BLOCK
    if checksum is None:
        checksum = b"%06o\0 " % sum(block)
    return block[:148] + checksum.ljust(8, b"\0") + block[156:]


def _octal(value: int | bytes, width: int) -> bytes:
    if isinstance(value, bytes):
        return value.ljust(width, b"\0")
    return b"%0*o\0" % (width - 1, value)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def extension(flag: bytes, data: bytes, name: bytes = b"././@LongLink") -> bytes:
    return header(name, flag, size=len(data)) + padded(data)


def pax(*records: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    body = b""
    for key, value in records:
        length = len(key) + len(value) + 3
        digits = next(n for n in range(1, 20) if len(str(length + n)) == n)
        body += b"%d %s=%s\n" % (length + digits, key, value)
    return extension(flag, body, b"PaxHeader")


def archive(*parts: bytes) -> bytes:
    return b"".join(parts) + END


def in_pieces(data: bytes, *sizes: int) -> Iterator[bytes]:
    """The bytes in pieces of these sizes, again and again."""
    at = 0
    while at < len(data):
        for size in sizes:
            if piece := data[at : at + size]:
                yield piece
            at += size


def joined(pieces: Iterable[bytes | memoryview]) -> bytes:
    return b"".join(map(bytes, pieces))
