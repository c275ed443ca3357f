"""Changes of an image's config written as a Dockerfile writes them, for `Container.commit`."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Final

from attrs import evolve

from pycontainer.errors import ContainerError
from pycontainer.oci import Healthcheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pycontainer.oci import ContainerConfig

__all__ = ["apply_instructions"]

_SHELL: Final = ("/bin/sh", "-c")
_UNITS: Final = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_NUMBERS: Final = ("interval", "timeout", "start_period", "retries", "start_interval")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")


def apply_instructions(config: ContainerConfig, lines: Iterable[str]) -> ContainerConfig:
    """The config after these instructions.

    Args:
        config: The config before.
        lines: Each one of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL,
            USER, VOLUME and WORKDIR with its arguments.

    Raises:
        ContainerError: One of them is something else, or malformed.
    """
    cmd_set = False
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        name, rest = word.upper(), rest.strip()
        change = _CHANGES.get(name)
        if change is None or not rest:
            raise _malformed(line, f"use one of {', '.join(_CHANGES)} with its arguments")
        try:
            config = change(config, rest)
        except ValueError as error:
            raise _malformed(line, str(error)) from error
        cmd_set |= name == "CMD"
        if name == "ENTRYPOINT" and not cmd_set:  # what was meant for another one
            config = evolve(config, cmd=None)
    return config


def _malformed(line: str, remedy: str) -> ContainerError:
    return ContainerError(f"{line!r} is no change of an image's config", remedy=remedy)


def _command(config: ContainerConfig, text: str) -> tuple[str, ...]:
    words = _array(text)
    return words if words is not None else (*(config.shell or _SHELL), text)


def _array(text: str) -> tuple[str, ...] | None:
    """The words of the exec form; None if it is not that."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except json.JSONDecodeError:
        return None
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return tuple(words)
    return None


def _words(text: str) -> tuple[str, ...]:
    return _array(text) or tuple(shlex.split(text))


def _pairs(text: str) -> dict[str, str]:
    first, _, value = text.partition(" ")
    if "=" not in first:  # the old form: NAME and the rest of the line
        if not value.strip():
            raise ValueError("write NAME=value")
        return {first: value.strip()}
    pairs = {}
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError("write NAME=value")
        pairs[name] = value
    return pairs


def _env(config: ContainerConfig, text: str) -> ContainerConfig:
    env = dict(entry.partition("=")[::2] for entry in config.env) | _pairs(text)
    return evolve(config, env=tuple(f"{name}={value}" for name, value in env.items()))


def _ports(text: str) -> list[str]:
    ports = []
    for word in text.split():
        port, _, protocol = word.partition("/")
        if not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise ValueError("ports are numbers from 1 to 65535")
        if protocol not in ("", "tcp", "udp", "sctp"):
            raise ValueError("a port's protocol is tcp, udp or sctp")
        ports.append(f"{port}/{protocol or 'tcp'}")
    return ports


def _workdir(config: ContainerConfig, text: str) -> ContainerConfig:
    joined = text if text.startswith("/") else f"{config.working_dir or '/'}/{text}"
    parts: list[str] = []
    for part in joined.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return evolve(config, working_dir="/" + "/".join(parts))


def _healthcheck(config: ContainerConfig, text: str) -> ContainerConfig:
    numbers: dict[str, int] = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        name, _, value = option.removeprefix("--").partition("=")
        key = name.replace("-", "_")
        if key not in _NUMBERS:
            raise ValueError(f"HEALTHCHECK has no option --{name}")
        numbers[key] = int(value) if key == "retries" else _duration(value)
        text = text.strip()
    kind, _, command = text.partition(" ")
    if kind.upper() == "NONE" and not command:
        return evolve(config, healthcheck=Healthcheck(("NONE",)))
    if kind.upper() != "CMD" or not command.strip():
        raise ValueError("write HEALTHCHECK NONE or HEALTHCHECK [--OPTION=...] CMD command")
    words = _array(command.strip())
    test = ("CMD", *words) if words is not None else ("CMD-SHELL", command.strip())
    return evolve(config, healthcheck=_check(test, numbers))


def _check(test: tuple[str, ...], numbers: dict[str, int]) -> Healthcheck:
    interval, timeout, start_period, retries, start_interval = (
        numbers.get(key, 0) for key in _NUMBERS
    )
    return Healthcheck(test, interval, timeout, start_period, retries, start_interval)


def _duration(text: str) -> int:
    """Nanoseconds of what Go writes as ``1m30s``."""
    found = _DURATION.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise ValueError(f"{text!r} is no duration such as 1m30s")
    return round(sum(float(number) * _UNITS[unit] for number, unit in found))


def _union(first: Sequence[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


_CHANGES: Final[dict[str, Callable[[ContainerConfig, str], ContainerConfig]]] = {
    "CMD": lambda c, text: evolve(c, cmd=_command(c, text)),
    "ENTRYPOINT": lambda c, text: evolve(c, entrypoint=_command(c, text)),
    "ENV": _env,
    "EXPOSE": lambda c, text: evolve(c, exposed_ports=_union(c.exposed_ports, _ports(text))),
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda c, text: evolve(c, labels={**c.labels, **_pairs(text)}),
    "ONBUILD": lambda c, text: evolve(c, on_build=(*c.on_build, text)),
    "SHELL": lambda c, text: evolve(c, shell=_words(text)),
    "STOPSIGNAL": lambda c, text: evolve(c, stop_signal=text),
    "USER": lambda c, text: evolve(c, user=text),
    "VOLUME": lambda c, text: evolve(c, volumes=_union(c.volumes, _words(text))),
    "WORKDIR": _workdir,
}
