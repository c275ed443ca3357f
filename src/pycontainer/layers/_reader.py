"""Reading tar: ustar, pax (POSIX.1-2001), GNU long names and sparse files, base-256 numbers.

Where readers of tar are known to differ, this one does as Go's ``archive/tar`` does, which Docker,
containerd and umoci read layers with: so that no layer means one thing there and another here.
"""

from __future__ import annotations

from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Final, TypeVar

from pycontainer.errors import TarError
from pycontainer.layers._compression import adler32
from pycontainer.layers._entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    SYMLINK,
    AtHand,
    Entry,
)
from pycontainer.layers._pax import XATTR, parse_records, parse_time, xattrs_of
from pycontainer.layers._sparse import SparseMap, parse_gnu_map, parse_pax_map, read_pax_1_0_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

__all__ = ["TarReader", "read_entries"]

_BLOCK: Final = 512
_LONGEST_EXTENSION: Final = 1 << 20  # of pax records and long names; more is an attack
_FIELDS: Final = Struct("100s 24s 12s 12s 8s B").unpack_from
"""Name; mode, owner and group; size; modification time; checksum; type."""

_MODE_BITS: Final = 0o7777
_ADLER_MODULUS: Final = 65521
_SECOND: Final = 1_000_000_000
_SPACE: Final = 0x20
_SMALL: Final = 2048
_LONGEST_DECIMAL: Final = 19  # digits
_LARGEST: Final = (1 << 63) - 1
_LARGEST_DEVICE: Final = 0o7777777  # in a header's field; Linux has 12 and 20 bits for them
_MOST_REMEMBERED: Final = 4096
_MOST_SUMS: Final = 1 << 14  # of usual headers: between the sums of a short and of a long name
_KINDS: Final = {
    ord("0"): FILE,
    0: FILE,
    ord("7"): FILE,  # "contiguous" files, which nobody makes otherwise
    ord("S"): FILE,
    ord("1"): HARD_LINK,
    ord("2"): SYMLINK,
    ord("3"): CHARACTER_DEVICE,
    ord("4"): BLOCK_DEVICE,
    ord("5"): DIRECTORY,
    ord("6"): FIFO,
}
_PLAIN: Final = frozenset(b"05")
_EMPTY: Final = frozenset((b"", b"."))
_MOST_MAP_BLOCKS: Final = 1 << 16
_LONG_NAME: Final = ord("L")
_LONG_LINK: Final = ord("K")
_PAX_GLOBAL: Final = ord("g")
_EXTENSIONS: Final = frozenset(b"LKxXg")  # X is Solaris's x
_GNU_SPARSE: Final = ord("S")


def read_entries(chunks: Iterable[bytes]) -> Iterator[Entry]:
    """Read a tar stream entry by entry.

    A file's `Entry.content` reads from the stream: it is gone once the next entry is asked for.
    Paths come without leading slashes, empty parts and ``.``; what ``..`` in them means is for the
    one who uses them to refuse. Entries of unknown type are an error, as they are to the other
    tools for layers. Nothing is read behind the two blocks of zeros that end the archive.

    Args:
        chunks: The uncompressed stream in pieces of any size.

    Raises:
        TarError: It is damaged, ends early, or holds what is not supported.
    """
    return iter(TarReader(chunks))


class TarReader:
    """A tar stream being read; iterate over it once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = b""
        self._view = memoryview(b"")
        self._at = 0
        self._offset = 0  # of the chunk's beginning in the stream, for errors
        self._left = 0  # bytes of the current file not yet read
        self._padding = 0
        self._serial = 0  # of the current entry
        self._pax: dict[bytes, bytes] = {}
        self._global: dict[bytes, bytes] = {}
        self._long_name: bytes | None = None
        self._long_link: bytes | None = None
        self._prefixes: dict[bytes, bytes] = {}  # normalised, of paths as they come
        # What fields mean that many headers have alike.
        self._identities: dict[bytes, tuple[int, int, int]] = {}
        self._times: dict[bytes, int] = {}
        self._sums: dict[bytes, int] = {}

    @property
    def position(self) -> int:
        """How many bytes of the stream have been read; a file's not until its content is."""
        return self._offset + self._at

    # --- bytes -------------------------------------------------------------------------------

    def _take(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end of the stream."""
        end = self._at + size
        if end <= len(self._chunk):
            piece = self._chunk[self._at : end]
            self._at = end
            return piece
        pieces = [self._chunk[self._at :]]
        have = len(pieces[0])
        self._at = len(self._chunk)
        while have < size and self._next_chunk():
            piece = self._chunk[: size - have]
            self._at = len(piece)
            pieces.append(piece)
            have += len(piece)
        return b"".join(pieces)

    def _next_chunk(self) -> bool:
        self._offset += len(self._chunk)
        self._chunk = next(self._chunks, b"")
        self._view = memoryview(self._chunk)
        self._at = 0
        return bool(self._chunk)

    def _skip(self, size: int) -> None:
        while size:
            step = min(size, len(self._chunk) - self._at)
            self._at += step
            size -= step
            if size and not self._next_chunk():
                raise self._error("the archive ends in the middle of an entry")

    def _content(self, serial: int) -> Iterator[memoryview]:
        """The current file's bytes as views of the chunks they come in."""
        if serial != self._serial:
            raise ValueError("a file's content was asked for after the next entry")
        while self._left:
            if self._at == len(self._chunk) and not self._next_chunk():
                raise self._error("the archive ends in the middle of a file")
            end = min(self._at + self._left, len(self._chunk))
            view = self._view[self._at : end]
            self._left -= end - self._at
            self._at = end
            yield view

    # --- entries -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Entry]:
        entry_of, sums = self._entry, self._sums
        while True:
            skip = self._left + self._padding
            if skip:
                self._left = self._padding = 0
                end = self._at + skip
                if end <= len(self._chunk):
                    self._at = end
                else:
                    self._skip(skip)
            at = self._at
            header = self._chunk[at : at + _BLOCK]
            if len(header) == _BLOCK:
                self._at = at + _BLOCK
            else:
                header = self._take(_BLOCK)
            if len(header) < _BLOCK and not self._check(header):
                return
            fields = _FIELDS(header)
            # The low half of Adler-32 is one plus the sum of all bytes, at the speed of C.
            total = adler32(header) & 0xFFFF
            if total != sums.get(fields[4]) and not self._fits(header, fields[4], total):
                return
            flag = fields[5]
            if flag in _EXTENSIONS:
                self._extend(flag, header)
            else:
                self._serial += 1
                yield entry_of(header, fields)

    def _fits(self, header: bytes, field: bytes, total: int) -> bool:
        """Whether the checksum is right, which is remembered; False at the archive's end.

        Raises:
            TarError: It is damaged.
        """
        try:
            wanted = 1 + int(field[:6], 8) + sum(field) - len(field) * _SPACE
        except ValueError:
            return self._check(header)
        if total != wanted % _ADLER_MODULUS:
            return self._check(header)
        _remember(self._sums, field, total, _MOST_SUMS)
        return True

    def _check(self, header: bytes) -> bool:
        """Look closer at an unusual header: False if it is the archive's end.

        Raises:
            TarError: It is damaged.
        """
        if len(header) < _BLOCK or not any(header):
            if self._pax or self._long_name is not None or self._long_link is not None:
                raise self._error("the archive ends after an extended header")
            if header and len(header) < _BLOCK:
                raise self._error("the archive ends in the middle of a header")
            # The archive ends with two blocks of zeros; without them if it just ends, and after one
            # of them likewise.
            if header and any(self._take(_BLOCK)):
                raise self._error("an entry follows a block of zeros")
            return False
        digits = header[148:156].strip(b" \0")
        wanted = int(digits, 8) if digits and not digits.strip(b"01234567") else -1
        rest = header[:148] + b" " * 8 + header[156:]
        # Some early tars summed signed characters.
        if wanted not in (sum(rest), sum(rest) - 256 * sum(byte > 127 for byte in rest)):
            raise self._error("a header's checksum is wrong")
        return True

    def _entry(self, header: bytes, fields: tuple[bytes, bytes, bytes, bytes, bytes, int]) -> Entry:
        name, identity, size_field, time_field, _, flag = fields
        kind = _KINDS.get(flag)
        if kind is None:
            raise self._error(f"entries of type {chr(flag)!r} are not supported")
        known = self._identities.get(identity) or self._identify(header, identity)
        mtime_ns = self._times.get(time_field)
        if mtime_ns is None:
            mtime_ns = self._time(header, time_field)
        try:  # eleven digits and a terminator is what nearly everybody writes
            digits = size_field[:11]
            size = int(digits, 8)
            # Python also reads signs, underscores and 0o, which other readers refuse.
            usual = size_field[11] <= _SPACE and digits.isdigit()
        except ValueError:
            usual = False
        if not usual:
            size = self._number(header, 124, 136, "size")
        if self._long_name is None:
            path = name.partition(b"\0")[0]
            if header[345] and header[257:263] == b"ustar\0":
                path = header[345:500].partition(b"\0")[0] + b"/" + path
        else:
            path, self._long_name = self._long_name, None
        entry = Entry(path, kind, *known, mtime_ns)
        records = self._pax
        if self._global:
            records = {**self._global, **records}
        if records:
            self._pax = {}
            size = self._apply(records, entry, size)
        if flag in _PLAIN and not self._long_link:
            if kind is FILE:
                self._padding = -size & (_BLOCK - 1)
                end = self._at + size
                if records and (b"GNU.sparse.major" in records or b"GNU.sparse.map" in records):
                    self._left = size
                    self._arrange(entry, records, header, flag)
                elif end <= len(self._chunk):
                    entry.size = size
                    # For little a copy is cheaper than a view.
                    source = self._chunk if size <= _SMALL else self._view
                    entry.content = AtHand(source[self._at : end])
                    self._at = end
                else:
                    entry.size = self._left = size
                    entry.content = partial(self._content, self._serial)
        else:
            self._describe(entry, records, header, flag, size)
        lead, _, name = entry.path.rpartition(b"/")
        prefix = self._prefixes.get(lead)
        if prefix is None or name in _EMPTY:
            entry.path = self._normalise(entry.path)
        else:
            entry.path = prefix + name
        return entry

    def _describe(
        self, entry: Entry, records: dict[bytes, bytes], header: bytes, flag: int, size: int
    ) -> None:
        """What plain files and directories do not have: links, device numbers, sparse maps."""
        kind = entry.kind
        if kind is FILE:
            self._left, self._padding = size, -size & (_BLOCK - 1)
            self._arrange(entry, records, header, flag)
        elif kind is HARD_LINK or kind is SYMLINK:
            link = records.get(b"linkpath") or self._long_link
            entry.link = link or header[157:257].partition(b"\0")[0]
            if b"\0" in entry.link:
                raise self._error("the target of a link contains a zero byte")
            if kind is HARD_LINK:
                entry.link = self._normalise(entry.link)
        elif kind is CHARACTER_DEVICE or kind is BLOCK_DEVICE:
            entry.major = self._number(header, 329, 337, "major number", _LARGEST_DEVICE)
            entry.minor = self._number(header, 337, 345, "minor number", _LARGEST_DEVICE)
        self._long_link = None
        # All but files have no data, whatever their size says.

    def _apply(self, records: dict[bytes, bytes], entry: Entry, size: int) -> int:
        """Let pax records override a header's fields; an empty record takes one back.

        Returns:
            The size.
        """
        xattrs = False
        for key, value in records.items():
            if key.startswith(XATTR):
                xattrs = True
            elif not value:
                continue
            elif key == b"mtime":
                try:
                    entry.mtime_ns = parse_time(value)
                except ValueError as error:
                    raise self._error(f"the pax record mtime is {error}") from None
            elif key == b"path":
                entry.path = value
            elif key == b"size":
                size = self._decimal(key, value)
            elif key == b"uid":
                entry.uid = self._decimal(key, value)
            elif key == b"gid":
                entry.gid = self._decimal(key, value)
        if b"GNU.sparse.name" in records:
            entry.path = records[b"GNU.sparse.name"]
        if b"\0" in entry.path:
            raise self._error("a name contains a zero byte")
        if xattrs:
            entry.xattrs = xattrs_of(records)
        return size

    def _arrange(self, entry: Entry, records: dict[bytes, bytes], header: bytes, flag: int) -> None:
        """Say what the content is: the data that follows, or what a sparse map makes of it."""
        if not flag and entry.path.endswith(b"/"):
            entry.kind = DIRECTORY  # archives before POSIX mark directories so
            return
        sparse: SparseMap | None = None
        try:
            if flag == _GNU_SPARSE:
                sparse = self._gnu_sparse(header)
            elif records.get(b"GNU.sparse.major") == b"1":
                real = self._real_size(records, b"GNU.sparse.realsize")
                sparse, used = read_pax_1_0_map(self._take, real, self._left)
                self._left -= used
            elif b"GNU.sparse.map" in records:
                real = self._real_size(records, b"GNU.sparse.size")
                sparse = parse_pax_map(records[b"GNU.sparse.map"], real, self._left)
        except ValueError as error:
            raise self._error(str(error)) from None
        if sparse is None:
            entry.size = self._left
        else:
            entry.size, entry.sparse = sparse.size, sparse.pieces
        entry.content = partial(self._content, self._serial)

    def _gnu_sparse(self, header: bytes) -> SparseMap:
        blocks = [header[386:482]]
        more = header[482]
        while more:
            block = self._take(_BLOCK)
            if len(block) < _BLOCK:
                raise self._error("the archive ends in a sparse map")
            blocks.append(block[:504])
            more = block[504]
            if len(blocks) > _MOST_MAP_BLOCKS:
                raise self._error("a sparse map is too long")
        return parse_gnu_map(
            b"".join(blocks), self._number(header, 483, 495, "real size"), self._left
        )

    # --- fields ------------------------------------------------------------------------------

    def _identify(self, header: bytes, identity: bytes) -> tuple[int, int, int]:
        """Mode and owners, of which few different ones occur in a layer."""
        known = (
            self._number(header, 100, 108, "mode") & _MODE_BITS,
            self._number(header, 108, 116, "uid"),
            self._number(header, 116, 124, "gid"),
        )
        _remember(self._identities, identity, known)
        return known

    def _time(self, header: bytes, field: bytes) -> int:
        """The modification time in nanoseconds; the files of a package often have the same."""
        mtime_ns = self._number(header, 136, 148, "mtime") * _SECOND
        _remember(self._times, field, mtime_ns)
        return mtime_ns

    def _number(
        self, header: bytes, start: int, end: int, what: str, largest: int = _LARGEST
    ) -> int:
        field = header[start:end]
        if field[0] & 0x80:  # base-256, two's complement
            bits = 8 * len(field) - 1
            value = int.from_bytes(field, "big") & ((1 << bits) - 1)
            value = value - (1 << bits) if field[0] & 0x40 else value
        else:
            digits = field.strip(b" \0").partition(b"\0")[0]
            if digits.strip(b"01234567"):
                raise self._error(f"the {what} {digits!r} is not an octal number")
            value = int(digits, 8) if digits else 0
        if value < 0 and what != "mtime":
            raise self._error(f"the {what} is negative")
        if value > largest or value < ~largest:
            raise self._error(f"the {what} is too large")
        return value

    def _extend(self, flag: int, header: bytes) -> None:
        size = self._number(header, 124, 136, "size")
        if size > _LONGEST_EXTENSION:
            raise self._error(f"an extended header has {size} bytes")
        data = self._take(size + -size % _BLOCK)[:size]
        if len(data) < size:
            raise self._error("the archive ends in an extended header")
        if flag == _LONG_NAME:
            self._long_name = data.partition(b"\0")[0]
        elif flag == _LONG_LINK:
            self._long_link = data.partition(b"\0")[0]
        else:
            try:
                records = parse_records(data)
            except ValueError as error:
                raise self._error(str(error)) from None
            (self._global if flag == _PAX_GLOBAL else self._pax).update(records)

    def _real_size(self, records: dict[bytes, bytes], key: bytes) -> int:
        return self._decimal(key, records[key]) if key in records else self._left

    def _decimal(self, key: bytes, text: bytes) -> int:
        if not text.isdigit() or len(text) > _LONGEST_DECIMAL or int(text) > _LARGEST:
            raise self._error(f"the pax record {key.decode()} is not a number: {text[:40]!r}")
        return int(text)

    def _normalise(self, path: bytes) -> bytes:
        """Drop leading slashes, empty parts and ``.``; ``..`` stays to be refused."""
        parts = [part for part in path.split(b"/") if part not in _EMPTY]
        lead, _, name = path.rpartition(b"/")
        if name not in _EMPTY:
            _remember(self._prefixes, lead, b"".join([part + b"/" for part in parts[:-1]]))
        return b"/".join(parts)

    def _error(self, what: str) -> TarError:
        return TarError(f"{what} (near byte {self._offset + self._at} of the tar stream)")


def _remember(
    memory: dict[bytes, T], field: bytes, meaning: T, most: int = _MOST_REMEMBERED
) -> None:
    """Keep what a field means; an archive in which all differ must not fill the memory."""
    if len(memory) >= most:
        memory.clear()
    memory[field] = meaning
