"""What few containers need of rights, kept out of the long lists of options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from attrs import asdict, evolve, field, frozen

from pycontainer._linux import capability
from pycontainer.containers._devices import Device, host_devices, parse_rule
from pycontainer.errors import ContainerError, SpecError
from pycontainer.oci.runtime import Capabilities, DeviceRule
from pycontainer.runtime import is_rootless, parse_profile

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from pycontainer.oci.runtime import Process, RuntimeSpec

__all__ = ["Security", "privileged_process"]

_PREFIX: Final = "CAP_"
_ALL: Final = "ALL"
_RAW_SOCKETS: Final = "CAP_NET_RAW"
_PING: Final = {"net.ipv4.ping_group_range": "0 0"}  # without raw sockets; there is no other group
_UNCONFINED: Final = {"defaultAction": "SCMP_ACT_ALLOW"}
_SHOWS_THE_KERNEL: Final = ("sysfs", "cgroup")


@frozen(kw_only=True)
class Security:
    """Rights of a container beside or below the default ones.

    Attributes:
        privileged: Whether it gets about all rights that this program has: all capabilities, all
            devices, no masked and no read-only paths, no system call filter unless `seccomp` names
            one. Nothing keeps such a container from taking over the machine.
        cap_add: Capabilities that it gets, with or without ``CAP_``; ``ALL`` for all that this
            program has. An ordinary user's container with a network has ``NET_RAW`` only if it
            is named here.
        cap_drop: Capabilities that it does not get; ``ALL`` for none but those of `cap_add`.
        seccomp: System call filter: path of a JSON file (Docker's format or the runtime-spec's), such
            an object, or ``unconfined`` for none; None for Docker's default.
        apparmor: Name of a loaded AppArmor profile that confines it.
        selinux: SELinux label of its processes.
        groups: Further groups of its first process, by name or number.
        devices: Devices of the host that it gets, as paths or `Device` values.
        device_rules: Further devices that it may use or make, such as ``c 189:* rwm``.
        sysctls: Kernel parameters of its own namespaces, such as ``net.ipv4.ip_forward``.
        masked_paths: Paths that show nothing, in place of the default ones.
        readonly_paths: Paths that can only be read, in place of the default ones.
    """

    privileged: bool = False
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    seccomp: str | os.PathLike[str] | Mapping[str, object] | None = None
    apparmor: str = ""
    selinux: str = ""
    groups: Sequence[str] = ()
    devices: Sequence[Device | str] = ()
    device_rules: Sequence[str] = ()
    sysctls: Mapping[str, str] = field(factory=dict)
    masked_paths: Sequence[str] | None = None
    readonly_paths: Sequence[str] | None = None

    def apply(self, spec: RuntimeSpec) -> RuntimeSpec:
        """The document with these rights.

        Raises:
            ContainerError: There is no such capability, device, rule or file.
            SpecError: The system call filter is none.
        """
        if self == _DEFAULT:  # as most are
            return spec
        if self.privileged:
            spec = _privileged(spec)
        process = evolve(
            self._with_capabilities(spec.process),
            apparmor_profile=self.apparmor,
            selinux_label=self.selinux,
        )
        changes: dict[str, object] = {"process": process}
        if self.sysctls:
            changes["sysctl"] = {**spec.sysctl, **self.sysctls}
        if self.masked_paths is not None:
            changes["masked_paths"] = tuple(self.masked_paths)
        if self.readonly_paths is not None:
            changes["readonly_paths"] = tuple(self.readonly_paths)
        if self.seccomp is not None:
            changes["seccomp"] = self._seccomp()
        if self.devices or self.device_rules:
            changes |= self._with_devices(spec)
        return spec.evolve(**changes)

    def without_raw_sockets(self, spec: RuntimeSpec, *, own_network: bool) -> RuntimeSpec:
        """The document of an ordinary user's container that pasta or slirp4netns connects.

        These carry packets for 127.0.0.1 or 0.0.0.0 to the host's own. No kernel sends such to them, but
        who may make frames by hand does.

        Args:
            spec: The document.
            own_network: Whether the network namespace is the container's own, not another's.
        """
        if self.privileged or {_ALL, _RAW_SOCKETS}.intersection(_names(self.cap_add)):
            return spec
        given = spec.process.capabilities
        left = Capabilities(
            **{
                name: tuple(each for each in names if each != _RAW_SOCKETS)
                for name, names in asdict(given).items()
            }
        )
        spec = spec.evolve(process=evolve(spec.process, capabilities=left))
        if not own_network:
            return spec
        return spec.evolve(sysctl={**_PING, **spec.sysctl})

    def _seccomp(self) -> Mapping[str, object]:
        if isinstance(self.seccomp, Mapping):
            document: object = self.seccomp
        elif self.seccomp == "unconfined":
            return _UNCONFINED
        else:
            assert self.seccomp is not None
            document = _read_profile(self.seccomp)
        parse_profile(document)
        return cast("Mapping[str, object]", document)

    def _with_devices(self, spec: RuntimeSpec) -> dict[str, object]:
        nodes, rules = list(spec.devices), list(spec.resources.devices)
        for given in self.devices:
            device = Device(given) if isinstance(given, str) else given
            for node, rule in device.nodes():
                nodes.append(node)
                rules.append(rule)
        rules += [parse_rule(text) for text in self.device_rules]
        return {
            "devices": tuple(nodes),
            "resources": evolve(spec.resources, devices=tuple(rules)),
        }

    def _with_capabilities(self, process: Process) -> Process:
        add, drop = _names(self.cap_add), _names(self.cap_drop)
        base = process.capabilities.bounding
        if _ALL in add or self.privileged:
            base = _all_that_can_be_given()
        if _ALL in drop and _ALL not in add:
            base = ()
        kept = [name for name in base if name not in drop]
        names = tuple(dict.fromkeys([*kept, *(name for name in add if name != _ALL)]))
        active = names if process.user.uid == 0 else ()
        return evolve(
            process,
            capabilities=Capabilities(bounding=names, effective=active, permitted=active),
        )


_DEFAULT: Final = Security()


def privileged_process(process: Process) -> tuple[Process, Mapping[str, object]]:
    """A process with all rights that can be given, and the system call filter of one: none."""
    rights = Security(privileged=True)._with_capabilities(process)  # noqa: SLF001
    return evolve(rights, apparmor_profile="", selinux_label=""), _UNCONFINED


def _privileged(spec: RuntimeSpec) -> RuntimeSpec:
    mounts = tuple(
        evolve(mount, options=tuple(option for option in mount.options if option != "ro"))
        if mount.type in _SHOWS_THE_KERNEL
        else mount
        for mount in spec.mounts
    )
    return spec.evolve(
        mounts=mounts,
        devices=(*spec.devices, *host_devices()),
        resources=evolve(spec.resources, devices=(DeviceRule(allow=True),)),
        seccomp=_UNCONFINED,
        masked_paths=(),
        readonly_paths=(),
    )


def _read_profile(path: str | os.PathLike[str]) -> object:
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ContainerError(
            f"cannot read the seccomp profile: {error}",
            remedy="give the path of a JSON file, or 'unconfined'",
        ) from error
    except ValueError as error:
        raise SpecError(f"the seccomp profile {path} is not JSON: {error}") from error


def _all_that_can_be_given() -> tuple[str, ...]:
    """Of root those that this process has; an ordinary user's user namespace has all."""
    if is_rootless():
        return capability.NAMES
    with open("/proc/self/status") as status:
        permitted = int(status.read().partition("CapPrm:")[2].split()[0], 16)
    return tuple(name for bit, name in enumerate(capability.NAMES) if permitted >> bit & 1)


def _names(words: Sequence[str]) -> list[str]:
    names = []
    for word in words:
        name = word.upper()
        if name != _ALL and not name.startswith(_PREFIX):
            name = _PREFIX + name
        if name != _ALL and name not in capability.NAMES:
            raise ContainerError(
                f"there is no capability {word!r}",
                remedy="write it as capabilities(7) does, such as NET_ADMIN",
            )
        names.append(name)
    return names
