"""What a container is called, and by what names it finds others: hosts, resolv.conf, hostname."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.errors import ContainerError
from pycontainer.oci.runtime import Mount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Names", "check_hostname", "mounts_of_files"]

_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?")
_OPTION: Final = re.compile(r"[a-z][a-z0-9-]*(:[0-9]+)?")
_MOST_OF_UTS: Final = 64  # __NEW_UTS_LEN: longer names are refused by sethostname(2)
_GATEWAY: Final = "host-gateway"
_FILES: Final = ("hosts", "resolv.conf", "hostname")
_LOCAL: Final = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


@frozen(kw_only=True)
class Names:
    """Names in a container: its domain, and how it finds others.

    Attributes:
        domainname: The NIS domain of its host, as domainname(1) shows it.
        extra_hosts: Addresses by host name, for its ``/etc/hosts``; ``host-gateway`` stands for the
            host's in the container's network.
        dns: Addresses of name servers, in place of the host's.
        dns_search: Domains to look host names up in, in place of the host's; ``["."]`` for none.
        dns_options: Options of the resolver, such as ``ndots:2`` (resolv.conf(5)), in place of the
            host's.
    """

    domainname: str = ""
    extra_hosts: Mapping[str, str] = field(factory=dict)
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_options: Sequence[str] = ()

    def check(self) -> None:
        """Refuse what is no name, address or option.

        Raises:
            ContainerError: Something is none.
        """
        if self.domainname:
            check_hostname(self.domainname, "domainname")
        for name, address in self.extra_hosts.items():
            if not _HOST_NAME.fullmatch(name):
                raise ContainerError(f"extra_hosts: {name!r} is no name of a host")
            if address != _GATEWAY:
                _check_address(address, f"extra_hosts: {name}")
        for address in self.dns:
            _check_address(address, "dns")
        for domain in self.dns_search:
            if domain != "." and not _HOST_NAME.fullmatch(domain.strip(".")):
                raise ContainerError(f"dns_search: {domain!r} is no domain")
        for option in self.dns_options:
            if not _OPTION.fullmatch(option):
                raise ContainerError(
                    f"dns_options: {option!r} is no option of the resolver",
                    remedy="write it as resolv.conf(5) does, such as 'ndots:2'",
                )

    def host_files(self, directory: Path, hostname: str, *, host_network: bool) -> None:
        """Write the files that `mounts_of_files` mounts.

        Args:
            directory: The container's own.
            hostname: Its name.
            host_network: Whether it shares the host's network, and so its names.
        """
        hosts, resolver = None, ""
        if host_network:
            hosts = _read_host("/etc/hosts") or None
            resolver = _read_host("/etc/resolv.conf")
        self.write_files(directory, hostname, hosts=hosts, resolver=resolver, gateway="127.0.0.1")

    def write_files(
        self,
        directory: Path,
        hostname: str,
        *,
        own_addresses: Sequence[str] = ("127.0.0.1",),
        gateway: str,
        hosts: str | None = None,
        resolver: str,
    ) -> None:
        """Write the contents of those files.

        Args:
            directory: The container's own.
            hostname: Its name.
            own_addresses: The addresses that its name stands for.
            gateway: The address that ``host-gateway`` stands for.
            hosts: The hosts to begin with; None for the usual ones and itself.
            resolver: A resolv.conf to begin with.
        """
        if hosts is None:
            name = self._full_name(hostname)
            hosts = _LOCAL + "".join(f"{address}\t{name}\n" for address in own_addresses)
        for name, address in self.extra_hosts.items():
            hosts += f"{gateway if address == _GATEWAY else address}\t{name}\n"
        contents = (hosts, self.resolver(resolver), hostname + "\n")
        for name, content in zip(_FILES, contents, strict=True):
            path = directory / name
            _write(path, content)

    def resolver(self, text: str) -> str:
        """A resolv.conf with what is given here in place of what it says."""
        if not (self.dns or self.dns_search or self.dns_options):
            return text
        replaced = {
            "nameserver": [f"nameserver {address}" for address in self.dns],
            "search": [f"search {' '.join(d for d in self.dns_search if d != '.')}".rstrip()],
            "options": [f"options {' '.join(self.dns_options)}"],
        }
        given = {"nameserver": self.dns, "search": self.dns_search, "options": self.dns_options}
        lines = []
        for kind, new in replaced.items():
            old = [line for line in text.splitlines() if _keyword(line) == kind]
            lines += [line for line in new if line != kind] if given[kind] else old
        return "".join(line + "\n" for line in lines)

    def _full_name(self, hostname: str) -> str:
        if not self.domainname or "." in hostname:
            return hostname
        return f"{hostname}.{self.domainname} {hostname}"


def mounts_of_files(directory: Path) -> list[Mount]:
    """What is mounted over the image's, so that names resolve: files in a container's directory."""
    return [
        Mount(f"/etc/{name}", "bind", str(directory / name), ("bind", "rprivate"))
        for name in _FILES
    ]


def check_hostname(name: str, option: str = "hostname") -> None:
    """Refuse what the kernel or the files would not take.

    Raises:
        ContainerError: It is no name, or too long.
    """
    if not _HOST_NAME.fullmatch(name) or len(name) > _MOST_OF_UTS:
        raise ContainerError(
            f"{option}={name!r} is no name of a host",
            remedy=f"use at most {_MOST_OF_UTS} letters, digits, '-', '_' and '.'",
        )


def _write(path: Path, content: str) -> None:
    """Write a new file that everybody may read, whatever this program's umask."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, content.encode())
        os.fchmod(fd, 0o644)
    finally:
        os.close(fd)


def _keyword(line: str) -> str:
    words = line.split()
    word = words[0] if words else ""
    return "search" if word == "domain" else word


def _check_address(text: str, what: str) -> None:
    import ipaddress  # three milliseconds, which containers without addresses need not wait for

    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise ContainerError(f"{what}: {text!r} is no IP address") from error


def _read_host(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
