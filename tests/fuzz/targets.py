"""What is fuzzed: each target takes any bytes, and raises only where the library has a bug."""

from __future__ import annotations

import atexit
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from types import MappingProxyType

from archives import in_pieces
from fuzz.sandbox import Sandbox
from pycontainer.build.dockerfile import Dockerfile
from pycontainer.build.dockerfile._expand import Expander
from pycontainer.errors import DockerfileError, Error, InvalidReference
from pycontainer.layers import (
    Entry,
    Kind,
    Ownership,
    _compression,
    decompress,
    read_entries,
    unpack,
    walk_diff,
    walk_tree,
    write_tar,
)
from pycontainer.oci import Compression, ImageConfig, Index, Manifest, Reference, parse_manifest
from pycontainer.oci._json import decode, encode
from pycontainer.oci.runtime import RuntimeSpec
from pycontainer.registry._challenge import parse_challenges
from pycontainer.registry._codes import ApiError, parse_errors
from pycontainer.registry._pages import next_link, page_of
from pycontainer.registry._ranges import chunk_range, requested_range
from pycontainer.registry._retry import retry_after

__all__ = ["TARGETS", "Target"]

Target = Callable[[bytes], None]

_MOST_BYTES = 16 << 20  # looked at of what a few bytes expand to
_LARGEST = 1 << 20  # of files that are compared whole
_VARIABLES = {"a": "b/c.d*", "V": "x y", "empty": ""}


# --- tar -------------------------------------------------------------------------------------


def fuzz_tar(data: bytes) -> None:
    """The reader gives the same from any pieces, and the writer can write what it gives."""
    found, failure = _read([data])
    size = 1 + sum(data[:64]) % 1500
    assert (found, failure) == _read(in_pieces(data, size)), "pieces change what is read"
    for entry in found:
        assert b"\0" not in entry[0] + entry[5]
        assert all(part not in (b"", b".") for part in entry[0].split(b"/") if entry[0])
    if not failure and all(entry[8] <= _LARGEST for entry in found):
        _check_writing(data)


_Facts = tuple[bytes, Kind, int, int, int, bytes, int, int, int, int, object, object, bytes]


def _read(chunks: Iterable[bytes]) -> tuple[list[_Facts], str]:
    found = []
    try:
        for entry in read_entries(chunks):
            stored = b"".join(map(bytes, entry.content())) if entry.content is not None else b""
            if entry.sparse is None:
                assert len(stored) == (entry.size if entry.kind is Kind.FILE else 0)
            else:
                assert len(stored) == sum(length for _, length in entry.sparse)
            found.append(_facts(entry, stored))
    except Error as error:
        return found, type(error).__name__ + str(error).partition(" (near")[0]
    return found, ""


def _facts(entry: Entry, stored: bytes) -> _Facts:
    return (
        entry.path,
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.link,
        entry.major,
        entry.minor,
        entry.size,
        entry.mtime_ns,
        tuple(sorted(entry.xattrs.items())),
        entry.sparse,
        stored,
    )


def _check_writing(data: bytes) -> None:
    written = b"".join(map(bytes, write_tar(read_entries([data]))))
    there, failure = _read([written])
    assert not failure, failure
    again = b"".join(map(bytes, write_tar(read_entries([written]))))
    assert again == written, "writing what was read is not stable"
    back, _ = _read([data])
    assert [entry[:11] for entry in there] == [entry[:11] for entry in back], "lost in writing"


# --- compression -----------------------------------------------------------------------------


def fuzz_decompress(data: bytes) -> None:
    """Pieces change nothing, and what zlib takes, `isal` takes for the same."""
    whole = _expanded(decompress([data]))
    size = 1 + sum(data[:64]) % 1500
    assert whole == _expanded(decompress(in_pieces(data, size))), "pieces change the output"
    if _compression.sniff(data) is Compression.GZIP and _compression._igzip is not None:
        plain = _expanded(_compression._zlib(iter([data])))
        # The former, as Go's, minds neither a header's reserved flags nor its checksum.
        assert plain[1] or whole == plain, f"isal: {whole}, zlib: {plain}"


def _expanded(pieces: Iterator[bytes]) -> tuple[tuple[int, int] | None, bool]:
    """Size and checksum of the output, and whether it ended in an error."""
    size, checksum = 0, 0
    try:
        for piece in pieces:
            size += len(piece)
            checksum = zlib.crc32(piece, checksum)
            if size >= _MOST_BYTES:
                return None, False
    except Error:
        return None, True
    return (size, checksum), False


# --- unpacking -------------------------------------------------------------------------------


@cache
def _sandbox() -> Sandbox:
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox


def fuzz_unpack(data: bytes) -> None:
    """Nothing leaves the root; what was unpacked can be walked, written and unpacked again.

    The first byte says how: 1 applies whiteouts to a tree that is there, 2 is for an ordinary user.
    """
    how, blob = (data[0], data[1:]) if data else (0, b"")
    apply = bool(how & 1)
    ownership = Ownership.USER if how & 2 or os.geteuid() else Ownership.ROOT
    with _sandbox().watched(filled=apply) as root:
        try:
            unpacked = unpack(
                io.BytesIO(blob),
                root,
                ownership=ownership,
                whiteouts="apply" if apply else "overlay",
            )
        except Error:
            return
        assert unpacked.size == len(blob)
        try:
            for entry in walk_tree(root, ownership=ownership):
                _drain(entry)
            if not apply:
                for entry in walk_diff(root, ownership=ownership):
                    _drain(entry)
        except Error:
            pass


def _drain(entry: Entry) -> None:
    if entry.content is not None and entry.size <= _LARGEST:
        assert sum(map(len, entry.content())) == entry.size


# --- documents and names ---------------------------------------------------------------------


def fuzz_oci(data: bytes) -> None:
    """A document is refused, or keeps its bytes and reads back as itself when it is made anew."""
    for parse in (Manifest.parse, Index.parse, ImageConfig.parse, parse_manifest):
        try:
            document = parse(data)
        except Error:
            continue
        assert document.encode() == data
        document.descriptor()
        hash(document)
        anew = document.evolve().encode()
        assert type(document).parse(anew) == document
        assert type(document).parse(anew).evolve().encode() == anew
    try:
        assert decode(encode(decode(data))) == decode(data)
        RuntimeSpec.parse(data)
    except Error:
        pass


def fuzz_reference(data: bytes) -> None:
    """A reference is refused or reads back as itself, also in its short form."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference
    assert reference.target


def fuzz_protocol(data: bytes) -> None:
    """Headers and bodies of the distribution protocol, from either side, break no parser."""
    text = data.decode("latin-1")
    next_link(text)
    for challenge in parse_challenges([text, f"Bearer {text}"]):
        assert challenge.scheme == challenge.scheme.lower()
    parse_errors(data)
    retry_after(text)
    for parse in (
        lambda: requested_range(text, 1000),
        lambda: chunk_range(text, 0),
        lambda: page_of(["a", "b"], "/list", n=text, last=text),
    ):
        try:
            parse()
        except ApiError:
            continue


def fuzz_dockerfile(data: bytes) -> None:
    """A Dockerfile is refused, or reads back as itself when printed; words expand or are refused."""
    try:
        dockerfile = Dockerfile.parse(data)
    except DockerfileError:
        pass
    else:
        assert Dockerfile.parse(str(dockerfile)) == dockerfile
    text = data.decode("utf-8", "replace")
    for expand in (Expander(_VARIABLES).word, Expander(_VARIABLES).words):
        try:
            expand(text)
        except ValueError:
            continue


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "tar": fuzz_tar,
        "decompress": fuzz_decompress,
        "unpack": fuzz_unpack,
        "oci": fuzz_oci,
        "reference": fuzz_reference,
        "protocol": fuzz_protocol,
        "dockerfile": fuzz_dockerfile,
    }
)
