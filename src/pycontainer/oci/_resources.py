"""``linux.resources`` of a runtime-spec document: limits, and rules for devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from pycontainer.errors import SpecError
from pycontainer.oci._frozen import frozen_members
from pycontainer.oci._json import Fields, Json, merge

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DeviceRule", "Resources"]


@frozen
class DeviceRule:
    """One of ``linux.resources.devices``; None stands for any number, ``a`` for all types."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"

    @classmethod
    def from_json(cls, value: object, path: str = "") -> DeviceRule:
        """Read one, or raise `SpecError`."""
        fields = Fields(value, path)
        fields.require("allow")
        kind, access = fields.text("type", "a"), fields.text("access", "rwm")
        if kind not in ("a", "c", "b"):
            raise SpecError(f"{kind[:40]!r} is none of a, c, b", path=fields.at("type"))
        if not set(access) <= set("rwm"):
            raise SpecError(f"{access[:40]!r} is not made of r, w, m", path=fields.at("access"))
        return cls(
            fields.flag("allow"), kind, _number(fields, "major"), _number(fields, "minor"), access
        )

    def to_json(self) -> Json:
        """The rule as plain values."""
        known = {
            "allow": self.allow,
            "type": self.type,
            "major": self.major,
            "minor": self.minor,
            "access": self.access,
        }
        return merge(known, {})


@frozen
class Resources:
    """``linux.resources``: limits. Memory in bytes (-1: none), CPU times in microseconds."""

    memory: int | None = None
    memory_swap: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_shares: int | None = None
    cpuset: str = ""
    pids: int | None = None
    devices: tuple[DeviceRule, ...] = ()
    memory_reservation: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool = False
    cpuset_mems: str = ""
    block_io_weight: int | None = None
    memory_extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)
    cpu_extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)
    block_io_extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)

    @classmethod
    def from_json(cls, value: object, path: str = "") -> Resources:
        """Read them, or raise `SpecError`."""
        fields = Fields(value, path)
        memory, cpu, pids, block_io = (
            fields.child(name) for name in ("memory", "cpu", "pids", "blockIO")
        )
        return cls(
            memory=memory.optional_integer("limit"),
            memory_swap=memory.optional_integer("swap"),
            cpu_quota=cpu.optional_integer("quota"),
            cpu_period=cpu.optional_integer("period", least=0),
            cpu_shares=cpu.optional_integer("shares", least=0),
            cpuset=cpu.text("cpus"),
            pids=pids.optional_integer("limit"),
            devices=fields.each("devices", DeviceRule.from_json),
            memory_reservation=memory.optional_integer("reservation"),
            swappiness=memory.optional_integer("swappiness", least=0, most=100),
            disable_oom_killer=memory.flag("disableOOMKiller"),
            cpuset_mems=cpu.text("mems"),
            block_io_weight=block_io.optional_integer("weight", least=10, most=1000),
            memory_extra=memory.rest(),
            cpu_extra=cpu.rest(),
            block_io_extra=block_io.rest(),
            extra=fields.rest(),
        )

    def to_json(self) -> Json:
        """The limits as plain values."""
        memory = {
            "limit": self.memory,
            "reservation": self.memory_reservation,
            "swap": self.memory_swap,
            "swappiness": self.swappiness,
            "disableOOMKiller": self.disable_oom_killer or None,
        }
        cpu = {
            "shares": self.cpu_shares,
            "quota": self.cpu_quota,
            "period": self.cpu_period,
            "cpus": self.cpuset or None,
            "mems": self.cpuset_mems or None,
        }
        known = {
            "devices": [rule.to_json() for rule in self.devices] or None,
            "memory": merge(memory, self.memory_extra) or None,
            "cpu": merge(cpu, self.cpu_extra) or None,
            "pids": None if self.pids is None else {"limit": self.pids},
            "blockIO": merge({"weight": self.block_io_weight}, self.block_io_extra) or None,
        }
        return merge(known, self.extra)


def _number(fields: Fields, name: str) -> int | None:
    number = fields.optional_integer(name, least=-1)
    return None if number == -1 else number
