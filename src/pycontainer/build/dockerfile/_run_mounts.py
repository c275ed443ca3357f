"""The options of ``RUN --mount``."""

from __future__ import annotations

import csv
import posixpath
import re
from typing import TYPE_CHECKING, Final

from attrs import define, field

from pycontainer.build._bound import clean_source, files_to_mount
from pycontainer.build._mounts import (
    BindMount,
    CacheMount,
    RunMount,
    SecretMount,
    SshMount,
    TmpfsMount,
)
from pycontainer.build.dockerfile._location import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pycontainer.build._cache_mounts import Sharing
    from pycontainer.build._graph import Vertex
    from pycontainer.build.dockerfile._steps import StageSteps

__all__ = ["MountMaker"]

_OTHER_NAMES: Final = {
    "dst": "target",
    "destination": "target",
    "src": "source",
    "ro": "readonly",
    "rw": "readwrite",
}
_OWNER: Final = ("mode", "uid", "gid")
_OPTIONS: Final = {
    "bind": ("target", "source", "from", "readonly", "readwrite"),
    "cache": ("id", "target", "source", "from", "readonly", "readwrite", "sharing", *_OWNER),
    "tmpfs": ("target", "size"),
    "secret": ("id", "target", "source", "env", "required", *_OWNER),
    "ssh": ("id", "target", "required", *_OWNER),
}
_SWITCHES: Final = ("readonly", "readwrite", "required")
_SHARING: Final[dict[str, Sharing]] = {
    "shared": "shared",
    "private": "private",
    "locked": "locked",
}
_SIZE: Final = re.compile(r"([0-9]{1,15})\s*([kmgt]?)i?b?", re.IGNORECASE)
_AGENT: Final = "/run/buildkit/ssh_agent.{}"
_NUMBER: Final = re.compile("[0-9]{1,10}")


@define
class MountMaker:
    """Makes the mounts of one command.

    Attributes:
        origins: The inputs, beside the first, that the command's vertex needs for them.
    """

    steps: StageSteps
    origins: list[Vertex] = field(factory=list)
    _agents: int = 0

    def make(self, text: str) -> RunMount:
        """A mount from the value of ``--mount``.

        Raises:
            ValueError: It is not written as it must be.
        """
        options = _Options.parse(text, self.steps.scope.word)
        make: Callable[[_Options], RunMount] = {
            "bind": self._bind,
            "cache": self._cache,
            "tmpfs": self._tmpfs,
            "secret": self._secret,
            "ssh": self._ssh,
        }[options.kind]
        return make(options)

    def _bind(self, options: _Options) -> BindMount:
        source = clean_source(options.text("source", "/"))
        writable = options.switch("readwrite") and not options.switch("readonly")
        number = self._origin(options.text("from"), source)
        return BindMount(self._target(options), source, writable, number)

    def _cache(self, options: _Options) -> CacheMount:
        target = self._target(options)
        source = clean_source(options.text("source", "/"))
        origin = options.text("from")
        sharing = options.text("sharing", "shared")
        if sharing not in _SHARING:
            raise ValueError(
                f"--mount: no way of sharing is {sharing!r}; "
                f"{nearest(sharing, _SHARING) or 'choose from ' + ', '.join(_SHARING)}"
            )
        return CacheMount(
            target,
            options.text("id") or target,
            _SHARING[sharing],
            options.mode(0o755),
            options.owner(),
            source,
            self._origin(origin, source) if origin else None,
            not options.switch("readonly"),
        )

    def _tmpfs(self, options: _Options) -> TmpfsMount:
        return TmpfsMount(self._target(options), options.size())

    def _secret(self, options: _Options) -> SecretMount:
        target = options.text("target")
        name = options.text("id") or options.text("source") or posixpath.basename(target)
        if not name:
            raise ValueError("--mount: a secret needs an id")
        env = options.text("env")
        if "=" in env or "\0" in env:
            raise ValueError(f"--mount: not the name of a variable: {env!r}")
        if not target and not env:
            target = f"/run/secrets/{posixpath.basename(name) or name}"
        return SecretMount(
            self._absolute(target) if target else "",
            name,
            env,
            options.switch("required"),
            options.mode(0o400),
            options.owner(),
        )

    def _ssh(self, options: _Options) -> SshMount:
        target = options.text("target") or _AGENT.format(self._agents)
        self._agents += 1
        return SshMount(
            self._absolute(target),
            options.text("id", "default"),
            options.switch("required"),
            options.mode(0o600),
            options.owner(),
        )

    def _target(self, options: _Options) -> str:
        target = options.text("target")
        if not target:
            raise ValueError(f"--mount: a mount of type {options.kind} needs a target")
        return self._absolute(target)

    def _absolute(self, target: str) -> str:
        place = posixpath.normpath(posixpath.join("/", self.steps.config.working_dir, target))
        place = place.replace("//", "/")
        if place == "/":
            raise ValueError("--mount: nothing can be mounted over the whole image")
        return place

    def _origin(self, name: str, source: str) -> int:
        """The number of the input that holds what is mounted."""
        steps = self.steps
        origin, label = steps.origin(name) if name else (steps.lowering.context(), "")
        vertex = files_to_mount(origin, source, label, steps.location)
        if vertex not in self.origins:
            self.origins.append(vertex)
        return self.origins.index(vertex)


@define
class _Options:
    """The options of one mount, by their full names.

    Attributes:
        kind: Its type.
    """

    kind: str
    _values: Mapping[str, str]

    @classmethod
    def parse(cls, text: str, expand: Callable[[str], str]) -> _Options:
        """Take ``name=value,…`` apart, which is a line of CSV."""
        try:
            words = next(csv.reader([text], strict=True), [])
        except csv.Error as error:
            raise ValueError(f"--mount={text}: {error}") from error
        values: dict[str, str] = {}
        for word in words:
            name, equals, value = word.strip().partition("=")
            name = name.lower()
            name = _OTHER_NAMES.get(name, name)
            if not equals and name not in _SWITCHES:
                raise ValueError(f"--mount: {word!r} has no value")
            values[name] = expand(value) if equals else "true"
        kind = values.pop("type", "bind").lower()
        if kind not in _OPTIONS:
            remedy = nearest(kind, _OPTIONS) or f"choose from {', '.join(_OPTIONS)}"
            raise ValueError(f"--mount has no type {kind!r}; {remedy}")
        for name in values:
            if name not in _OPTIONS[kind]:
                remedy = nearest(name, _OPTIONS[kind]) or f"it has {', '.join(_OPTIONS[kind])}"
                raise ValueError(f"--mount: type {kind} has no option {name!r}; {remedy}")
        return cls(kind, values)

    def text(self, name: str, default: str = "") -> str:
        """The value of an option."""
        return self._values.get(name, default)

    def switch(self, name: str) -> bool:
        """Whether an option is set."""
        value = self._values.get(name, "false").lower()
        if value not in ("true", "false", "1", "0"):
            raise ValueError(f"--mount: {name} is either true or false")
        return value in ("true", "1")

    def mode(self, default: int) -> int:
        """The permissions."""
        text = self._values.get("mode")
        if text is None:
            return default
        if not re.fullmatch("(0o?)?[0-7]{1,4}", text):
            raise ValueError(f"--mount: not a file mode: {text!r}")
        return int(text.replace("o", ""), 8)

    def owner(self) -> tuple[int, int]:
        """User and group id."""
        numbers = []
        for name in ("uid", "gid"):
            text = self._values.get(name, "0")
            if not _NUMBER.fullmatch(text) or int(text) >= 2**32 - 1:
                raise ValueError(f"--mount: {name} is {text!r}, not a number")
            numbers.append(int(text))
        return numbers[0], numbers[1]

    def size(self) -> int:
        """How large it may become, bytes; 0 for no limit."""
        text = self._values.get("size", "0")
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"--mount: size is {text!r}, not a number of bytes such as 64m")
        return int(match[1]) << 10 * " kmgt".index(match[2].lower() or " ")
