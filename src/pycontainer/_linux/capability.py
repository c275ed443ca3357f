"""Capability sets (capabilities(7))."""

from __future__ import annotations

import ctypes

from pycontainer._linux._syscall import NUMBERS, syscall

__all__ = [
    "NAMES",
    "drop_bounding",
    "get_capabilities",
    "mask",
    "raise_ambient",
    "set_capabilities",
]

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""All capabilities, each at the place that is its number."""

_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_EINVAL = 22


def mask(names: tuple[str, ...] | list[str]) -> int:
    """The bit mask of capabilities given by name (``CAP_KILL``).

    Raises:
        ValueError: One of them is unknown.
    """
    bits = 0
    for name in names:
        bits |= 1 << NAMES.index(name)
    return bits


def drop_bounding(keep: int) -> None:
    """Take every capability outside the mask `keep` from the bounding set, for good."""
    prctl = NUMBERS["prctl"]
    try:
        for number in range(64):
            if not keep >> number & 1:
                syscall(prctl, _PR_CAPBSET_DROP, number, what="drop a capability")
    except OSError as error:
        if error.errno != _EINVAL:  # that is past the kernel's last one
            raise


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for this thread."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    low, high = 0xFFFFFFFF, 32
    data = (ctypes.c_uint32 * 6)(
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    syscall(NUMBERS["capset"], ctypes.addressof(header), ctypes.addressof(data), what="capset")


def get_capabilities() -> tuple[int, int, int]:
    """Effective, permitted and inheritable capabilities of this thread (capget(2))."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    syscall(NUMBERS["capget"], ctypes.addressof(header), ctypes.addressof(data), what="capget")
    effective, permitted, inheritable = (data[n] | data[n + 3] << 32 for n in range(3))
    return effective, permitted, inheritable


def raise_ambient(bits: int) -> None:
    """Put the capabilities of a mask into the ambient set; they must be permitted and inheritable."""
    for number in range(len(NAMES)):
        if bits >> number & 1:
            syscall(
                NUMBERS["prctl"],
                _PR_CAP_AMBIENT,
                _PR_CAP_AMBIENT_RAISE,
                number,
                what=f"ambient {NAMES[number]}",
            )
