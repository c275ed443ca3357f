"""Byte ranges: of blobs (RFC 9110) and of uploads (distribution spec, "Pushing a blob in chunks")."""

from __future__ import annotations

import re
from typing import Final

from pycontainer.registry._codes import ApiError

__all__ = ["chunk_range", "received_range", "requested_range"]

_BYTES: Final = re.compile(r"bytes\s*=\s*(\d{0,19})-(\d{0,19})\s*", re.ASCII)
_CHUNK: Final = re.compile(r"(?:bytes[ =])?(\d{1,19})-(\d{1,19})(?:/(?:\d+|\*))?", re.ASCII)


def requested_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The part of a blob that a ``Range`` header asks for, as start and end (exclusive).

    None means the whole: no header, several ranges, or a form that is not understood (RFC 9110,
    section 14.2 lets a server ignore the header).

    Raises:
        ApiError: Nothing of the range is in the blob (416).
    """
    found = _BYTES.fullmatch(header or "")
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    else:
        start, end = max(size - int(last), 0), size
    if start >= end:
        raise ApiError("SIZE_INVALID", f"no bytes in that range of {size}", status=416)
    return start, end


def chunk_range(header: str | None, offset: int) -> int | None:
    """Check a chunk's ``Content-Range`` against what an upload has so far.

    Returns:
        The chunk's size, or None where the header is absent: a stream of any size.

    Raises:
        ApiError: The chunk does not start where the upload stands (416), or the header is wrong.
    """
    if header is None:
        return None
    found = _CHUNK.fullmatch(header.strip())
    if found is None or int(found[1]) > int(found[2]):
        raise ApiError(
            "BLOB_UPLOAD_INVALID", "Content-Range must be start-end", detail=header[:80], status=416
        )
    if int(found[1]) != offset:
        raise ApiError(
            "BLOB_UPLOAD_INVALID",
            f"the upload stands at {offset}, the chunk starts at {found[1]}",
            detail={"offset": offset},
            status=416,
        )
    return int(found[2]) - offset + 1


def received_range(offset: int) -> str:
    """The ``Range`` header that tells what an upload has: an empty one says ``0-0``, as Docker's."""
    return f"0-{max(offset - 1, 0)}"
