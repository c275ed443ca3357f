"""Whether commands of another processor's images can run here: by an interpreter that the kernel knows."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.errors import BuildError
from pycontainer.oci import Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontainer.snapshots import TreeView

__all__ = ["check_runnable"]

_REGISTERED: Final = Path("/proc/sys/fs/binfmt_misc")
_HEADER: Final = "<4sBBBB8xHH"  # the first 20 bytes of an ELF file, elf(5)
_BIG: Final = ">4sBBBB8xHH"
_EXECUTABLE: Final = 2
_MACHINES: Final = {  # bits, byte order, e_machine (linux/elf-em.h)
    "386": (32, "<", 3),
    "amd64": (64, "<", 62),
    "arm": (32, "<", 40),
    "arm64": (64, "<", 183),
    "loong64": (64, "<", 258),
    "mips64le": (64, "<", 8),
    "ppc64le": (64, "<", 21),
    "riscv64": (64, "<", 243),
    "s390x": (64, ">", 22),
}
_NATIVE: Final = {("386", "amd64")}
"""Platforms whose programs another processor runs by itself."""


def check_runnable(platform: Platform, tree: TreeView, title: str) -> None:
    """Make sure that programs for a platform can run here.

    Args:
        platform: The image's.
        tree: Its files: an interpreter that the kernel has not opened itself must be among them.
        title: The step, for the error.

    Raises:
        BuildError: They cannot.
    """
    here = Platform.current()
    known = (platform.architecture, here.architecture)
    if platform.os != here.os or (known[0] != known[1] and known not in _NATIVE):
        handler = next(_handlers(platform.architecture), None) if platform.os == here.os else None
        if handler is None:
            raise BuildError(
                f"{title}: the image is for {platform}, this machine runs {here} and has no "
                "interpreter for the other's programs",
                remedy="register one in binfmt_misc, as Debian's package qemu-user-static does; or "
                "execute the step in a stage for this machine and copy from there",
            )
        if not handler.is_open and tree.lookup(handler.interpreter) is None:
            raise BuildError(
                f"{title}: the interpreter {handler.interpreter} for {platform} is not in the image",
                remedy="register it with the flag F (fix binary), so that containers need no copy",
            )


@frozen
class _Handler:
    """What the kernel runs files with: an interpreter, opened when it was registered or not."""

    interpreter: str
    is_open: bool


def _handlers(architecture: str) -> Iterator[_Handler]:
    """The enabled handlers that take this architecture's programs (binfmt-misc.rst)."""
    header = _header(architecture)
    if header is None:
        return
    for path in sorted(_REGISTERED.glob("*")):
        if path.name in ("register", "status"):
            continue
        try:
            lines = path.read_text().splitlines()
        except OSError:  # gone meanwhile
            continue
        fields = dict(line.partition(" ")[::2] for line in lines)
        if "enabled" in fields and _takes(fields, header):
            is_open = "F" in fields.get("flags:", "")
            yield _Handler(fields.get("interpreter", ""), is_open)


def _takes(fields: dict[str, str], header: bytes) -> bool:
    if "magic" not in fields or int(fields.get("offset", "0")):
        return False
    magic = bytes.fromhex(fields["magic"])
    mask = bytes.fromhex(fields.get("mask", "ff" * len(magic)))
    return len(magic) <= len(header) and all(
        (byte ^ wanted) & bits == 0 for byte, wanted, bits in zip(header, magic, mask, strict=False)
    )


def _header(architecture: str) -> bytes | None:
    if architecture not in _MACHINES:
        return None
    bits, order, machine = _MACHINES[architecture]
    layout = _HEADER if order == "<" else _BIG
    return struct.pack(
        layout, b"\x7fELF", bits // 32, 1 if order == "<" else 2, 1, 0, _EXECUTABLE, machine
    )
