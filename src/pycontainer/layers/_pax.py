"""The records of pax extended headers (POSIX.1-2017, pax, "pax Header Block")."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "XATTR",
    "decimal_time",
    "encode_records",
    "parse_records",
    "parse_time",
    "xattr_key",
    "xattrs_of",
]

XATTR: Final = b"SCHILY.xattr."
_PLAIN: Final = frozenset((b"path", b"linkpath", b"size", b"mtime", b"uid", b"gid"))
_FAMILIES: Final = (XATTR, b"GNU.sparse.")
_REPEATED: Final = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_SECOND: Final = 1_000_000_000
_LONGEST_LENGTH: Final = 10  # digits
_LONGEST_TIME: Final = 19  # digits of the seconds
_LARGEST: Final = (1 << 63) - 1
_NEWLINE: Final = 0x0A


def parse_records(data: bytes) -> dict[bytes, bytes]:
    r"""Read records ``length key=value\\n``; the length counts itself.

    Those that say nothing a layer needs (times of access and change, comments) are left out.

    Raises:
        ValueError: They are malformed.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    find = data.find
    while at < len(data):
        # A value may hold any byte, but the usual ones have no newline: the end is found faster than
        # the length is counted, and the length then says whether it was the end.
        end = find(b"\n", at) + 1
        head, equals, value = data[at : end - 1].partition(b"=")
        digits, _, key = head.partition(b" ")
        if not digits.isdigit() or len(digits) > _LONGEST_LENGTH:
            raise ValueError("a pax record has no length")
        if int(digits) != end - at:
            end = at + int(digits)
            if not len(digits) + 1 < end - at <= len(data) - at or data[end - 1] != _NEWLINE:
                raise ValueError("a pax record has a wrong length")
            key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise ValueError("a pax record has no key or no value")
        at = end
        if key in _PLAIN or key.startswith(_FAMILIES):
            if key in _REPEATED:
                # Format 0.0 repeats its keys: keep all of them in order under the one of 0.1.
                key = b"GNU.sparse.map"
                value = records[key] + b"," + value if key in records else value
            records[key] = value
    return records


def xattrs_of(records: Mapping[bytes, bytes]) -> dict[str, bytes]:
    """The extended attributes among records."""
    return {
        # GNU tar writes so the two characters that a key cannot have.
        os.fsdecode(key[len(XATTR) :].replace(b"%3D", b"=").replace(b"%25", b"%")): value
        for key, value in records.items()
        if key.startswith(XATTR)
    }


def encode_records(records: Mapping[bytes, bytes]) -> bytes:
    """Write records in the order of their keys."""
    return b"".join([_record(key, records[key]) for key in sorted(records)])


def xattr_key(name: str) -> bytes:
    """The key under which an extended attribute is recorded."""
    return XATTR + os.fsencode(name).replace(b"%", b"%25").replace(b"=", b"%3D")


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) + rest != length:
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def parse_time(text: bytes) -> int:
    """Seconds with a fraction to nanoseconds, exactly; before 1970 too.

    Raises:
        ValueError: It is no time.
    """
    whole, _, fraction = text.partition(b".")
    digits = whole.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > _LONGEST_TIME or (fraction and not fraction.isdigit()):
        raise ValueError(f"not a time: {text[:40]!r}")
    seconds = int(digits)
    if seconds > _LARGEST:
        raise ValueError(f"too far away: {text[:40]!r}")
    value = seconds * _SECOND
    if fraction:
        value += int(fraction[:9].ljust(9, b"0"))
    return -value if whole[:1] == b"-" else value


def decimal_time(nanoseconds: int) -> bytes:
    """Nanoseconds to seconds with as many decimals as it needs."""
    sign = b"-" if nanoseconds < 0 else b""
    whole, rest = divmod(abs(nanoseconds), _SECOND)
    return b"%s%d" % (sign, whole) + (b".%09d" % rest if rest else b"").rstrip(b"0")
