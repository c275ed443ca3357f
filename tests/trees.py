"""Directory trees as values, so that tests can say that two are the same, file by file."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from attrs import frozen


@frozen
class FileFacts:
    """All that a layer says of a file.

    Attributes:
        mode: Type and permission bits.
        owner: User and group.
        mtime_ns: Modification time.
        size: Of a regular file.
        content: Digest of a regular file's bytes.
        link: Target of a symlink.
        device: Of a device.
        xattrs: Extended attributes but those of overlay itself.
        names: All its names, where it has several.
    """

    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    size: int = 0
    content: str = ""
    link: str = ""
    device: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()
    names: frozenset[str] = frozenset()


def picture_of(root: Path) -> dict[str, FileFacts]:
    """All files below a directory by path; the directory itself is ``.``."""
    paths = [Path(), *(path.relative_to(root) for path in root.rglob("*"))]
    names: dict[tuple[int, int], set[str]] = {}
    for path in paths:
        status = (root / path).lstat()
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            names.setdefault((status.st_dev, status.st_ino), set()).add(str(path))
    # An overlay still counts the names that another file has got meanwhile.
    several = {key: those for key, those in names.items() if len(those) > 1}
    return {str(path): _facts(root / path, several) for path in paths}


def _facts(path: Path, names: dict[tuple[int, int], set[str]]) -> FileFacts:
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    is_file = kind == stat.S_IFREG
    return FileFacts(
        mode=status.st_mode,
        owner=(status.st_uid, status.st_gid),
        mtime_ns=status.st_mtime_ns,
        size=status.st_size if is_file else 0,
        content=hashlib.sha256(path.read_bytes()).hexdigest() if is_file else "",
        link=os.readlink(path) if kind == stat.S_IFLNK else "",
        device=status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
        xattrs=tuple(
            (key, os.getxattr(path, key, follow_symlinks=False))
            for key in sorted(os.listxattr(path, follow_symlinks=False))
            if not key.startswith(("trusted.overlay.", "user.overlay."))
        ),
        names=frozenset(names.get((status.st_dev, status.st_ino), ())),
    )


def differences(
    one: dict[str, FileFacts], other: dict[str, FileFacts]
) -> dict[str, tuple[FileFacts | None, FileFacts | None]]:
    """What is in only one of two trees, or not alike in both."""
    return {
        path: (one.get(path), other.get(path))
        for path in sorted(one.keys() | other.keys())
        if one.get(path) != other.get(path)
    }
