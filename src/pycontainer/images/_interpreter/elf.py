"""What the dynamic loader reads of an ELF file (System V ABI, chapters 4 and 5; elf(5))."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO, Final

from attrs import frozen

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Elf", "read_elf"]

_MAGIC: Final = b"\x7fELF"
_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2
_PT_INTERP: Final = 3
_DT_NULL: Final = 0
_DT_NEEDED: Final = 1
_DT_STRTAB: Final = 5
_DT_STRSZ: Final = 10
_DT_SONAME: Final = 14
_DT_RPATH: Final = 15
_DT_RUNPATH: Final = 29
_LARGEST_TABLE: Final = 16 << 20


@frozen
class Elf:
    """The dynamic part of a program or shared library.

    Attributes:
        kind: Word size, byte order and machine; libraries must have their user's.
        interpreter: The dynamic loader that a program asks for.
        soname: The name that a library gives itself.
        needed: Names of the libraries it needs.
        rpath: Where they are looked for, in the old way (DT_RPATH).
        runpath: Where they are looked for, in the new way (DT_RUNPATH).
    """

    kind: tuple[int, int, int]
    interpreter: str = ""
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


@frozen
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def read_elf(path: Path) -> Elf | None:
    """Read a file; None if it is no ELF file, or a damaged one that no loader would take.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        try:
            return _read(file)
        except (struct.error, ValueError, LookupError):
            return None


def _read(file: BinaryIO) -> Elf | None:
    identity = file.read(16)
    if len(identity) < 16 or not identity.startswith(_MAGIC):
        return None
    word, order = identity[4], identity[5]
    end = "<" if order == 1 else ">"
    is_64 = word == 2
    machine, table, entry_size, count = _header(file, end, is_64)
    segments = [
        _segment(_at(file, table + i * entry_size, 56 if is_64 else 32), end, is_64)
        for i in range(count)
    ]
    kind = (word, order, machine)
    interpreter = ""
    dynamic: dict[int, list[int]] = {}
    for segment in segments:
        if segment.kind == _PT_INTERP:
            interpreter = _text(_at(file, segment.offset, segment.size), 0)
        elif segment.kind == _PT_DYNAMIC:
            dynamic = _dynamic(_at(file, segment.offset, segment.size), end, is_64)
    if not dynamic:
        return Elf(kind, interpreter)
    strings = _strings(file, segments, dynamic)

    def texts(tag: int) -> tuple[str, ...]:
        return tuple(_text(strings, offset) for offset in dynamic.get(tag, ()))

    return Elf(
        kind,
        interpreter,
        soname="".join(texts(_DT_SONAME)[:1]),
        needed=texts(_DT_NEEDED),
        rpath=_directories(texts(_DT_RPATH)),
        runpath=_directories(texts(_DT_RUNPATH)),
    )


def _header(file: BinaryIO, end: str, is_64: bool) -> tuple[int, int, int, int]:
    """Machine, and place, entry size and length of the table of segments."""
    if is_64:
        fields = struct.unpack(end + "HHIQQQIHHH", _at(file, 16, 42))
    else:
        fields = struct.unpack(end + "HHIIIIIHHH", _at(file, 16, 30))
    return fields[1], fields[4], fields[8], fields[9]


def _segment(data: bytes, end: str, is_64: bool) -> _Segment:
    if is_64:
        kind, _, offset, address, _, size, _, _ = struct.unpack(end + "IIQQQQQQ", data)
    else:
        kind, offset, address, _, size, _, _, _ = struct.unpack(end + "IIIIIIII", data)
    return _Segment(kind, offset, address, size)


def _dynamic(data: bytes, end: str, is_64: bool) -> dict[int, list[int]]:
    layout = struct.Struct(end + ("QQ" if is_64 else "II"))
    found: dict[int, list[int]] = {}
    for tag, value in layout.iter_unpack(data[: len(data) - len(data) % layout.size]):
        if tag == _DT_NULL:
            break
        found.setdefault(tag, []).append(value)
    return found


def _strings(file: BinaryIO, segments: list[_Segment], dynamic: dict[int, list[int]]) -> bytes:
    """The string table, which the dynamic section names by its address in memory."""
    address, size = dynamic[_DT_STRTAB][0], dynamic[_DT_STRSZ][0]
    for segment in segments:
        if segment.kind == _PT_LOAD and 0 <= address - segment.address < segment.size:
            return _at(file, segment.offset + address - segment.address, size)
    raise ValueError("the string table is in no segment")


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    if size > _LARGEST_TABLE or offset + size > os.fstat(file.fileno()).st_size:
        raise ValueError("what is announced is not in the file")
    file.seek(offset)
    return file.read(size)


def _text(table: bytes, offset: int) -> str:
    end = table.find(b"\0", offset)
    return table[offset : end if end >= 0 else None].decode("utf-8", "surrogateescape")


def _directories(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for text in texts for part in text.split(":") if part)
