"""Mounts by descriptor: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2).

A mount made here belongs to nobody's tree until `attach` puts it somewhere: what fails half-way
disappears with its descriptor.
"""

from __future__ import annotations

import ctypes
import os

from pycontainer._linux._syscall import NUMBERS, encode, libc, syscall

__all__ = [
    "AT_FDCWD",
    "MS_BIND",
    "MS_PRIVATE",
    "MS_RDONLY",
    "MS_REC",
    "MS_REMOUNT",
    "MS_SHARED",
    "MS_SLAVE",
    "MS_UNBINDABLE",
    "NOATIME",
    "NODEV",
    "NODIRATIME",
    "NOEXEC",
    "NOSUID",
    "NOSYMFOLLOW",
    "RDONLY",
    "STRICTATIME",
    "attach",
    "bind",
    "configure",
    "create",
    "filesystem",
    "fsopen",
    "map_ids",
    "mount",
    "pivot_root",
    "set_attributes",
    "unmount",
]

AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000

# MOUNT_ATTR_* of mount_setattr(2)
RDONLY = 0x1
NOSUID = 0x2
NODEV = 0x4
NOEXEC = 0x8
NOATIME = 0x10
STRICTATIME = 0x20
NODIRATIME = 0x80
NOSYMFOLLOW = 0x200000
_IDMAP = 0x100000

# MS_* of mount(2)
MS_RDONLY = 0x1
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000

_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_FSCONFIG_LIMIT = 255

_mount = libc.mount
_mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount(
    source: str | None,
    target: str | bytes,
    kind: str | None = None,
    flags: int = 0,
    data: str | bytes | None = None,
) -> None:
    """Mount by path, for what the descriptor calls cannot do and for kernels without them (mount(2))."""
    arguments = [None if x is None else encode(x) for x in (source, target, kind, data)]
    if _mount(arguments[0], arguments[1], arguments[2], flags, arguments[3]) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"mount {kind or source} on {target!r}")


def unmount(target: str | bytes, *, detach: bool = True) -> None:
    """umount2(2); never follows a symlink at `target`. With `detach` a busy mount goes lazily."""
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if detach else 0)
    syscall(NUMBERS["umount2"], encode(target), flags, what=f"umount {target!r}")


def fsopen(kind: str) -> int:
    """Open a context in which a file system of `kind` is configured."""
    return syscall(NUMBERS["fsopen"], encode(kind), _FSOPEN_CLOEXEC, what=f"fsopen {kind}")


def configure(context: int, key: str, value: str | bytes | None = None) -> None:
    """Set one parameter; without `value` a flag.

    Raises:
        OSError: The kernel refused; its own words are in `filename`. A value of more than 255
            bytes is refused (EINVAL) before the file system sees it.
    """
    if value is None:
        command, data = _FSCONFIG_SET_FLAG, None
    else:
        command, data = _FSCONFIG_SET_STRING, encode(value)
    what = f"fsconfig {key}" if value is None else f"fsconfig {key}={value!r}"
    _fsconfig(context, command, encode(key), data, what)


def create(context: int, attributes: int = 0) -> int:
    """Create the configured file system and return a descriptor of its detached mount."""
    _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, "fsconfig create")
    return syscall(NUMBERS["fsmount"], context, _FSMOUNT_CLOEXEC, attributes, what="fsmount")


def _fsconfig(
    context: int, command: int, key: bytes | None, value: bytes | None, what: str
) -> None:
    try:
        syscall(NUMBERS["fsconfig"], context, command, key, value, 0, what=what)
    except OSError as error:
        try:
            said = os.read(context, 4096).decode("utf-8", "replace").strip()
        except OSError:
            said = ""
        error.filename = f"{what}: {said}" if said else what
        raise


def filesystem(
    kind: str, attributes: int = 0, options: tuple[tuple[str, str | None], ...] = ()
) -> int:
    """Make a detached mount of a new instance of a file system, such as ``proc`` or ``tmpfs``."""
    context = fsopen(kind)
    try:
        for key, value in options:
            configure(context, key, value)
        return create(context, attributes)
    finally:
        os.close(context)


def bind(source: str | bytes, *, recursive: bool = True, directory: int = AT_FDCWD) -> int:
    """Clone what is mounted at `source` (an empty name: at the descriptor `directory` itself)."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    if recursive:
        flags |= _AT_RECURSIVE
    path = encode(source)
    if not path:
        flags |= _AT_EMPTY_PATH
    return syscall(NUMBERS["open_tree"], directory, path, flags, what=f"open_tree {source!r}")


def attach(tree: int, target: str | bytes, directory: int = AT_FDCWD) -> None:
    """Put a detached mount at `target` (an empty name: onto the descriptor `directory` itself)."""
    path = encode(target)
    flags = _MOVE_MOUNT_F_EMPTY_PATH
    if not path:
        flags |= _MOVE_MOUNT_T_EMPTY_PATH
    syscall(NUMBERS["move_mount"], tree, b"", directory, path, flags, what=f"move_mount {target!r}")


def set_attributes(
    tree: int,
    attributes: int,
    *,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    path: str = "",
) -> None:
    """mount_setattr(2) on a mount given by descriptor, or by `path` relative to it."""
    _set(tree, _MountAttr(attributes, clear, propagation, 0), path, recursive=recursive)


def map_ids(tree: int, user_namespace: int, *, recursive: bool) -> None:
    """Show the owners of a detached mount's files as a user namespace maps them.

    Raises:
        OSError: The file system cannot do that (EINVAL), or its mount is mapped already.
    """
    _set(tree, _MountAttr(_IDMAP, 0, 0, user_namespace), "", recursive=recursive)


def _set(tree: int, attr: _MountAttr, path: str, *, recursive: bool) -> None:
    flags = (0 if path else _AT_EMPTY_PATH) | (_AT_RECURSIVE if recursive else 0)
    syscall(
        NUMBERS["mount_setattr"],
        tree,
        encode(path),
        flags,
        ctypes.addressof(attr),
        ctypes.sizeof(attr),
        what=f"mount_setattr {path}",
    )


def pivot_root(new_root: str, put_old: str) -> None:
    """Change the root (pivot_root(2)).

    With ``.`` for both, the old root is stacked on the new one, ready to be detached.
    """
    syscall(NUMBERS["pivot_root"], encode(new_root), encode(put_old), what="pivot_root")
