"""Devices of the host that a container gets, and rules for those that it may use."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.errors import ContainerError
from pycontainer.oci import runtime as oci

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Device", "host_devices", "parse_rule"]

_RULE: Final = re.compile(r"([abc]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")
_ACCESS: Final = re.compile(r"[rwm]{1,3}")
_OF_OTHERS: Final = frozenset({"pts", "shm", "fd", "mqueue", "console", "ptmx", "hugepages"})


@frozen
class Device:
    """A device of the host, or a directory of them, that is to be in a container.

    Attributes:
        source: Its path on the host; symbolic links are followed.
        target: Its path in the container; None for the same.
        access: What is allowed: some of ``r`` (read), ``w`` (write), ``m`` (make nodes).
    """

    source: str
    target: str | None = None
    access: str = "rwm"

    def nodes(self) -> Iterator[tuple[oci.Device, oci.DeviceRule]]:
        """The nodes to make, each with the rule that allows it.

        Raises:
            ContainerError: There is no such device, or the access is none.
        """
        if not _ACCESS.fullmatch(self.access):
            raise ContainerError(
                f"{self.access!r} is no access to the device {self.source}",
                remedy="give some of the letters r, w and m",
            )
        target = self.target or self.source
        if not target.startswith("/") or ".." in target.split("/"):
            raise ContainerError(
                f"cannot make a device at {target!r}",
                remedy="give an absolute path without '..'",
            )
        source = os.path.realpath(self.source)
        found = list(_nodes_at(source))
        if not found:
            raise ContainerError(f"{self.source} is no device, and no directory with devices")
        for path, status in found:
            place = target + path.removeprefix(source)
            kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
            major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
            mode, uid, gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
            yield (
                oci.Device(place, kind, major, minor, mode, uid, gid),
                oci.DeviceRule(True, kind, major, minor, self.access),
            )


def host_devices() -> list[oci.Device]:
    """All devices in the host's /dev but terminals and what each container has of its own."""
    with os.scandir("/dev") as entries:
        names = [entry.name for entry in entries if entry.name not in _OF_OTHERS]
    found = []
    for name in sorted(names):
        path = f"/dev/{name}"
        if not os.path.islink(path) and any(_nodes_at(path)):
            found += [device for device, _ in Device(path).nodes()]
    return found


def parse_rule(text: str) -> oci.DeviceRule:
    """Read a rule as Docker and the kernel write it, such as ``c 189:* rwm``.

    Raises:
        ContainerError: It is none.
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise ContainerError(
            f"{text!r} is no rule for devices",
            remedy="write type, numbers and access, such as 'c 189:* rwm'",
        )
    kind, major, minor, access = match.groups()
    first, second = (None if number == "*" else int(number) for number in (major, minor))
    return oci.DeviceRule(True, kind, first, second, access)


def _nodes_at(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """The device at a path, or those in and below a directory."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        yield path, status
    elif stat.S_ISDIR(status.st_mode):
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            yield from _nodes_at(f"{path}/{name}")
