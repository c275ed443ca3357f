"""Reading tar: ustar, pax (POSIX.1-2001), GNU long names and sparse files, base-256 numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import adler32

from pycontainer.errors import TarError
from pycontainer.layers._entry import NO_XATTRS, Entry, Kind
from pycontainer.layers._sparse import SparseMap, parse_gnu_map, parse_pax_map, read_pax_1_0_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["TarReader", "read_entries"]

_BLOCK: Final = 512
_LONGEST_EXTENSION: Final = 1 << 20  # of pax records and long names; more is an attack
_MODE_BITS: Final = 0o7777
_KINDS: Final = {
    ord("0"): Kind.FILE,
    0: Kind.FILE,
    ord("7"): Kind.FILE,  # "contiguous" files, which nobody makes otherwise
    ord("S"): Kind.FILE,
    ord("1"): Kind.HARD_LINK,
    ord("2"): Kind.SYMLINK,
    ord("3"): Kind.CHARACTER_DEVICE,
    ord("4"): Kind.BLOCK_DEVICE,
    ord("5"): Kind.DIRECTORY,
    ord("6"): Kind.FIFO,
}
_XATTR = "SCHILY.xattr."
_SECOND: Final = 1_000_000_000


def read_entries(chunks: Iterable[bytes]) -> Iterator[Entry]:
    """Read a tar stream entry by entry.

    A file's `Entry.content` reads from the stream: it is gone once the next entry is asked for.

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
        self._at = 0
        self._offset = 0  # of the chunk's beginning in the stream, for errors
        self._left = 0  # bytes of the current file not yet read
        self._padding = 0
        self._pax: dict[str, bytes] = {}
        self._global: dict[str, bytes] = {}
        self._long_name: bytes | None = None
        self._long_link: bytes | None = None
        self._pax_size = False
        self._identities: dict[bytes, tuple[int, int, int]] = {}

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
        self._at = 0
        return bool(self._chunk)

    def _skip(self, size: int) -> None:
        while size:
            step = min(size, len(self._chunk) - self._at)
            self._at += step
            size -= step
            if size and not self._next_chunk():
                raise self._error("the archive ends in the middle of an entry")

    def _pieces(self) -> Iterator[memoryview]:
        """The current file's bytes as views of the chunks they came in."""
        while self._left:
            if self._at == len(self._chunk) and not self._next_chunk():
                raise self._error("the archive ends in the middle of a file")
            end = min(self._at + self._left, len(self._chunk))
            view = memoryview(self._chunk)[self._at : end]
            self._at = end
            self._left -= len(view)
            yield view

    # --- entries -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Entry]:
        while True:
            if self._left or self._padding:
                self._skip(self._left + self._padding)
                self._left = self._padding = 0
            header = self._take(_BLOCK)
            if len(header) < _BLOCK:
                if header or self._pax or self._long_name is not None:
                    raise self._error("the archive ends in the middle of a header")
                return  # without the two zero blocks, which GNU tar accepts too
            if not self._check(header):
                if not any(header):
                    if self._ends():
                        return
                    continue
                raise self._error("a header's checksum is wrong")
            entry = self._entry(header)
            if entry is not None:
                yield entry

    def _ends(self) -> bool:
        """After one block of zeros: the archive is over if a second follows or nothing does."""
        second = self._take(_BLOCK)
        if any(second):
            raise self._error("an entry follows a block of zeros")
        return True  # whatever is behind belongs to nobody

    def _check(self, header: bytes) -> bool:
        # The low half of Adler-32 is one plus the sum of all bytes, at the speed of C.
        total = (adler32(header[:256]) & 0xFFFF) + (adler32(header[256:]) & 0xFFFF) - 2
        field = header[148:156]
        try:
            wanted = int(field.partition(b"\0")[0], 8)
        except ValueError:
            return False
        return total - sum(field) + 256 == wanted

    def _entry(self, header: bytes) -> Entry | None:
        flag = header[156]
        size = self._number(header, 124, 136, "size")
        if flag in b"xgLK":
            self._extend(flag, size)
            return None
        kind = _KINDS.get(flag)
        if kind is None:
            raise self._error(f"entries of type {chr(flag)!r} are not supported")
        identity = header[100:124]
        known = self._identities.get(identity)
        if known is None:
            known = self._identities[identity] = (
                self._number(header, 100, 108, "mode") & _MODE_BITS,
                self._number(header, 108, 116, "uid"),
                self._number(header, 116, 124, "gid"),
            )
        entry = Entry(
            self._name(header),
            kind,
            known[0],
            known[1],
            known[2],
            self._number(header, 136, 148, "mtime") * _SECOND,
            size,
        )
        if kind is Kind.HARD_LINK or kind is Kind.SYMLINK:
            entry.link = header[157:257].partition(b"\0")[0]
            if self._long_link is not None:
                entry.link, self._long_link = self._long_link, None
        elif kind is Kind.CHARACTER_DEVICE or kind is Kind.BLOCK_DEVICE:
            entry.major = self._number(header, 329, 337, "major")
            entry.minor = self._number(header, 337, 345, "minor")
        sparse = self._gnu_sparse(header) if flag == ord("S") else None
        stored = entry.size
        self._pax_size = False
        if self._pax or self._global:
            stored, sparse = self._apply_pax(entry, sparse)
        self._finish(entry, stored, sparse)
        return entry

    def _finish(self, entry: Entry, stored: int, sparse: SparseMap | None) -> None:
        """Normalise the names and arrange for the content, `stored` bytes of which follow."""
        path = entry.path
        if entry.kind is Kind.FILE and path.endswith(b"/"):
            entry.kind = Kind.DIRECTORY  # pre-POSIX archives mark directories so
        entry.path = _normalise(path)
        if entry.kind is Kind.HARD_LINK:
            entry.link = _normalise(entry.link)
        if entry.kind is not Kind.FILE:
            entry.size = 0
            if entry.kind is Kind.HARD_LINK:
                stored = stored if self._pax_size else 0
            self._left, self._padding = stored, -stored % _BLOCK
            return
        self._left, self._padding = stored, -stored % _BLOCK
        if sparse is not None:
            entry.size, entry.sparse = sparse.size, sparse.pieces
        else:
            entry.size = stored
        entry.content = self._pieces

    def _name(self, header: bytes) -> bytes:
        if self._long_name is not None:
            name, self._long_name = self._long_name, None
            return name
        name = header[:100].partition(b"\0")[0]
        if header[345] and header[257:263] == b"ustar\0":
            return header[345:500].partition(b"\0")[0] + b"/" + name
        return name

    def _number(self, header: bytes, start: int, end: int, what: str) -> int:
        field = header[start:end]
        if field[0] & 0x80:  # base-256, two's complement
            bits = 8 * len(field) - 1
            value = int.from_bytes(field, "big") & ((1 << bits) - 1)
            value = value - (1 << bits) if field[0] & 0x40 else value
        else:
            digits = field.partition(b"\0")[0].strip()
            try:
                value = int(digits, 8) if digits else 0
            except ValueError:
                raise self._error(f"the {what} {digits!r} is not an octal number") from None
        if value < 0 and what != "mtime":
            raise self._error(f"the {what} is negative")
        return value

    # --- extensions --------------------------------------------------------------------------

    def _extend(self, flag: int, size: int) -> None:
        if size > _LONGEST_EXTENSION:
            raise self._error(f"an extended header of {size} bytes")
        data = self._take(size + -size % _BLOCK)[:size]
        if len(data) < size:
            raise self._error("the archive ends in an extended header")
        if flag == ord("L"):
            self._long_name = data.partition(b"\0")[0]
        elif flag == ord("K"):
            self._long_link = data.partition(b"\0")[0]
        elif flag == ord("x"):
            self._pax.update(self._records(data))
        else:
            self._global.update(self._records(data))

    def _records(self, data: bytes) -> dict[str, bytes]:
        r"""Records ``length key=value\\n``; the length counts itself."""
        records: dict[str, bytes] = {}
        at = 0
        while at < len(data):
            space = data.find(b" ", at, at + 20)
            digits = data[at:space] if space > 0 else b""
            end = at + int(digits) if digits.isdigit() else 0
            if not space < end <= len(data) or data[end - 1] != 0x0A:
                raise self._error("a pax record is malformed")
            key, equals, value = data[space + 1 : end - 1].partition(b"=")
            if not equals:
                raise self._error("a pax record has no value")
            name = key.decode("utf-8", "surrogateescape")
            if name in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
                # Format 0.0 repeats its keys: keep all of them in order under one.
                joined = records.get("GNU.sparse.map")
                value = value if joined is None else joined + b"," + value
                name = "GNU.sparse.map"
            records[name] = value
            at = end
        return records

    def _apply_pax(self, entry: Entry, sparse: SparseMap | None) -> tuple[int, SparseMap | None]:
        records = {**self._global, **self._pax}
        self._pax = {}
        get = records.get
        entry.path = get("path", entry.path)
        entry.link = get("linkpath", entry.link)
        if b"\0" in entry.path or b"\0" in entry.link:
            raise self._error("a name contains a zero byte")
        self._pax_size = "size" in records
        stored = self._decimal(records, "size", entry.size)
        entry.uid = self._decimal(records, "uid", entry.uid)
        entry.gid = self._decimal(records, "gid", entry.gid)
        if "mtime" in records:
            entry.mtime_ns = self._time(records["mtime"])
        start = len(_XATTR)
        xattrs = {key[start:]: v for key, v in records.items() if key.startswith(_XATTR)}
        entry.xattrs = xattrs or NO_XATTRS
        if "GNU.sparse.name" in records:
            entry.path = records["GNU.sparse.name"]
        if get("GNU.sparse.major") == b"1":
            real = self._decimal(records, "GNU.sparse.realsize", stored)
            sparse, used = read_pax_1_0_map(self._take, real, stored)
            stored -= used
        elif "GNU.sparse.map" in records:
            real = self._decimal(records, "GNU.sparse.size", stored)
            sparse = parse_pax_map(records["GNU.sparse.map"], real, stored)
        return stored, sparse

    def _gnu_sparse(self, header: bytes) -> SparseMap:
        blocks = [header[386:482]]
        more = header[482]
        while more:
            block = self._take(_BLOCK)
            if len(block) < _BLOCK:
                raise self._error("the archive ends in a sparse map")
            blocks.append(block[:504])
            more = block[504]
        real = self._number(header, 483, 495, "real size")
        stored = self._number(header, 124, 136, "size")
        return parse_gnu_map(b"".join(blocks), real, stored)

    def _decimal(self, records: dict[str, bytes], name: str, default: int) -> int:
        text = records.get(name)
        if text is None:
            return default
        if not text.isdigit() or len(text) > 20:
            raise self._error(f"the pax record {name} is not a number: {text[:40]!r}")
        return int(text)

    def _time(self, text: bytes) -> int:
        """Seconds with a fraction to nanoseconds, exactly; before 1970 too."""
        whole, _, fraction = text.partition(b".")
        negative = whole.startswith(b"-")
        digits = whole.removeprefix(b"-")
        if not digits.isdigit() or (fraction and not fraction.isdigit()) or len(digits) > 18:
            raise self._error(f"the pax record mtime is not a time: {text[:40]!r}")
        value = int(digits) * _SECOND + int(fraction[:9].ljust(9, b"0"))
        return -value if negative else value

    def _error(self, what: str) -> TarError:
        return TarError(f"{what} (near byte {self._offset + self._at} of the tar stream)")


def _normalise(path: bytes) -> bytes:
    """Drop empty parts and ``.``; what ``..`` means is the extractor's to refuse."""
    if b"//" in path or b"./" in path or path[-1:] in (b"/", b".") or path[:1] == b"/":
        return b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
    return path
