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


def with_checksums(data: bytes | bytearray) -> bytes:
    """The same archive with the checksum of each header made right."""
    data = bytearray(data)
    for base in range(0, len(data) - BLOCK + 1, BLOCK):
        block = data[base : base + BLOCK]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            data[base + 148 : base + 156] = b"%06o\0 " % sum(block)
    return bytes(data)


PARTS = [
    header(b"./", b"5", mode=0o755),
    header(b"d/", b"5", mode=0o755),
    file(b"d/f", b"content" * 200),
    header(b"d/s", b"2", link=b"../../x"),
    header(b"d/h", b"1", link=b"d/f"),
    header(b"up", b"2", link=b".."),
    file(b"up/f", b"x"),
    header(b"null", b"3", major=1, minor=3),
    header(b"fifo", b"6"),
    file(b"d/.wh.gone"),
    file(b"d/.wh..wh..opq"),
    file(b".wh.d"),
    pax((b"path", b"p" * 200), (b"mtime", b"-1.5"), (b"SCHILY.xattr.user.k", b"v"))
    + file(b"x", b"y"),
    pax((b"uid", b"7"), flag=b"g"),
    extension(b"L", b"l" * 300 + b"\0") + file(b"x", b"y"),
    extension(b"K", b"k" * 300 + b"\0") + header(b"k", b"2"),
    pax((b"GNU.sparse.size", b"9000"), (b"GNU.sparse.map", b"10,3,5000,2")) + file(b"s", b"abcde"),
    pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"900"))
    + file(b"t", b"1\n5\n3\n".ljust(BLOCK, b"\0") + b"abc"),
    header(
        b"g",
        b"S",
        size=3,
        magic=b"ustar  \0",
        rest=bytes(41) + (b"%011o\0%011o\0" % (512, 3)).ljust(97, b"\0") + b"%011o\0" % 600,
    )
    + b"abc".ljust(BLOCK, b"\0"),
]
"""Entries of all kinds and formats, whose names meet."""

FIELDS = [
    (0, 100),
    (100, 108),
    (108, 116),
    (124, 136),
    (136, 148),
    (156, 157),
    (157, 257),
    (345, 500),
]
"""Where a header's fields begin and end."""

VALUES = [
    b"../../outside",
    b"/",
    b"..",
    b"",
    b".wh...",
    b".wh.",
    b"up/up/outside",
    b"d",
    b"\x80" + bytes(10) + b"\xff",
    b"\xff" * 12,
    b"77777777777",
    b"00000001000",
    *(bytes([flag]) for flag in b"01234567LKxgSX\0"),
]
"""What is put into fields to see what becomes of it."""
