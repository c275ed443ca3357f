"""Changes that keep an input close to what parsers expect, so that they get past its first bytes."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

import zstandard

from archives import BLOCK, END, FIELDS, PARTS, VALUES, extension, pax, with_checksums

__all__ = ["MUTATORS", "changed_bytes"]

Mutator = Callable[[bytes, random.Random], bytes]

_MOST_EXPANDED = 1 << 20
_NAMES = [
    b"a",
    b"d",
    b"d/f",
    b"d/e/f",
    b"up/x",
    b"far/outside",
    b"abs/outside",
    b"file",
    b"d/loop/x",
    b"../x",
    b"/x",
    b".",
    b"./",
    b"d/../x",
    b".wh.d",
    b"d/.wh.f",
    b"d/.wh..wh..opq",
    b".wh.up",
    b"n" * 255,
    b"p/" * 90 + b"x",
    b"\xff\xfe",
]
_RECORDS = [
    (b"path", b"up/../x"),
    (b"path", b""),
    (b"linkpath", b"/"),
    (b"linkpath", b"../../outside"),
    (b"size", b"3"),
    (b"size", b"999999999999999999"),
    (b"uid", b"4294967295"),
    (b"gid", b"65534"),
    (b"mtime", b"-1.000000001"),
    (b"mtime", b"999999999999.9"),
    (b"SCHILY.xattr.user.k", b"v"),
    (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
    (b"SCHILY.xattr.user.pycontainer.meta", b"0:0:777:c:1:3"),
    (b"SCHILY.xattr.security.capability", b"\x01\0\0\2" + bytes(16)),
    (b"SCHILY.xattr.system.posix_acl_default", b"\2\0\0\0"),
    (b"SCHILY.xattr.a%3Db%", b"="),
    (b"GNU.sparse.major", b"1"),
    (b"GNU.sparse.minor", b"0"),
    (b"GNU.sparse.realsize", b"70000"),
    (b"GNU.sparse.size", b"1000"),
    (b"GNU.sparse.map", b"0,1,5,2"),
    (b"GNU.sparse.offset", b"7"),
    (b"GNU.sparse.numbytes", b"1"),
    (b"GNU.sparse.name", b"real"),
]


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut, doubled or put in."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(out))
        what = rng.randrange(5)
        if what == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif what == 1:
            del out[at : at + rng.choice([1, 4, 100])]
        elif what == 2:
            out[at:at] = rng.randbytes(rng.choice([1, 2, 8]))
        elif what == 3:
            out[at:at] = out[at : at + rng.choice([1, 16, 512])]
        elif out:
            out[at % len(out)] = rng.choice(b"\0\x01\x7f\x80\xff0/.,:=\"'\\")
    return bytes(out)


def changed_tar(data: bytes, rng: random.Random) -> bytes:
    """Blocks and fields of an archive changed, entries put in, checksums mostly made right."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        blocks = len(out) // BLOCK
        base = BLOCK * rng.randint(0, blocks)
        what = rng.randrange(8)
        if what == 0:
            out[base:base] = rng.choice(PARTS)
        elif what == 1:
            _set_field(out, base, rng)
        elif what == 2:
            name = rng.choice(_NAMES)
            start = rng.choice([0, 0, 0, 157])
            if base + BLOCK <= len(out):
                out[base + start : base + start + 100] = name[:100].ljust(100, b"\0")
        elif what == 3:
            records = rng.sample(_RECORDS, rng.randint(1, 4))
            out[base:base] = pax(*records, flag=rng.choice([b"x", b"x", b"g", b"X"]))
        elif what == 4:
            out[base:base] = extension(rng.choice([b"L", b"K"]), rng.choice(_NAMES) + b"\0")
        elif what == 5:
            other = BLOCK * rng.randint(0, blocks)
            out[base:base] = out[other : other + BLOCK * rng.randint(1, 3)]
        elif what == 6:
            del out[base : base + BLOCK * rng.randint(1, 3)]
        elif what == 7 and base + BLOCK <= len(out):
            out[base + 156] = rng.choice(b"01234567LKxgSX\0")
    if rng.random() < 0.5 and not out.endswith(END):
        out += END
    return with_checksums(out) if rng.random() < 0.9 else bytes(out)


def _set_field(out: bytearray, base: int, rng: random.Random) -> None:
    if base + BLOCK > len(out):
        return
    start, end = rng.choice(FIELDS)
    value = rng.choice([*VALUES, rng.randbytes(end - start), b"%o" % rng.choice([0, 1, 512, 8191])])
    out[base + start : base + end] = value[: end - start].ljust(end - start, b"\0")


def changed_blob(data: bytes, rng: random.Random) -> bytes:
    """A layer: its tar changed under another compression, or the compressed bytes themselves."""
    how, blob = data[:1] or b"\0", data[1:]
    if rng.random() < 0.1:
        how = bytes([rng.randrange(4)])
    if rng.random() < 0.15:
        return how + changed_bytes(blob, rng)
    tar = changed_tar(_expanded(blob), rng)
    # Compressed input says little to who follows coverage: mostly it stays as it is.
    return how + (tar if rng.random() < 0.9 else _compressed(tar, rng))


def changed_stream(data: bytes, rng: random.Random) -> bytes:
    """A compressed stream: its content changed, members joined, or its bytes changed."""
    what = rng.random()
    if what < 0.3:
        return _compressed(changed_bytes(_expanded(data), rng), rng)
    if what < 0.4:
        return data + rng.choice([b"\0" * 7, _compressed(b"more", rng), data])
    return changed_bytes(data, rng)


def _expanded(blob: bytes) -> bytes:
    try:
        if blob[:2] == b"\x1f\x8b":
            return zlib.decompressobj(31).decompress(blob, _MOST_EXPANDED)
        if blob[:4] == b"\x28\xb5\x2f\xfd":
            # Not by `decompress`, which believes the size that a frame announces.
            with zstandard.ZstdDecompressor().stream_reader(blob) as reader:
                return reader.read(_MOST_EXPANDED)
    except (zlib.error, zstandard.ZstdError):
        pass
    return blob


def _compressed(data: bytes, rng: random.Random) -> bytes:
    what = rng.randrange(3)
    if what == 0:
        return gzip.compress(data, 1, mtime=0)
    if what == 1:
        checksum, size = rng.random() < 0.5, rng.random() < 0.5
        return zstandard.ZstdCompressor(
            level=1, write_checksum=checksum, write_content_size=size
        ).compress(data)
    return data


_LEAVES: list[Any] = [None, True, 0, -1, 1 << 70, 0.5, "", "a", "sha256:" + "0" * 64, [], {}]


def changed_json(data: bytes, rng: random.Random) -> bytes:
    """A value of a document changed, moved or left out; or its bytes."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return changed_bytes(data, rng)
    if rng.random() < 0.3 or not isinstance(document, dict | list):
        return changed_bytes(data, rng)
    places: list[tuple[Any, Any]] = []
    todo = [document]
    while todo:
        value = todo.pop()
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        places += [(value, key) for key in keys]
        todo += [value[key] for key in keys if isinstance(value[key], dict | list)]
    for _ in range(rng.randint(1, 3) if places else 0):
        holder, key = rng.choice(places)
        try:
            if rng.random() < 0.2:
                del holder[key]
            else:
                holder[key] = rng.choice([*_LEAVES, rng.choice(places)[0]])
        except (KeyError, IndexError):
            continue
    try:
        return json.dumps(document).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # it has become part of itself
        return data


MUTATORS: dict[str, Mutator] = {
    "tar": changed_tar,
    "decompress": changed_stream,
    "unpack": changed_blob,
    "oci": changed_json,
}
"""Those of targets that have one."""
