"""``process`` of a runtime-spec document: what is executed, and as whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.errors import SpecError
from pycontainer.oci._frozen import frozen_members
from pycontainer.oci._json import UINT32_MAX, Fields, Json, merge, refuse_twice

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Capabilities", "Process", "Rlimit", "User"]

_CAPABILITY_SETS: Final = ("bounding", "effective", "permitted", "inheritable", "ambient")


@frozen
class User:
    """``process.user``."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    umask: int | None = None
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)

    @classmethod
    def from_json(cls, value: object, path: str = "") -> User:
        """Read it, or raise `SpecError`."""
        fields = Fields(value, path)
        return cls(
            uid=fields.integer("uid", least=0, most=UINT32_MAX),
            gid=fields.integer("gid", least=0, most=UINT32_MAX),
            additional_gids=fields.integers("additionalGids"),
            umask=fields.optional_integer("umask", least=0, most=0o777),
            extra=fields.rest(),
        )

    def to_json(self) -> Json:
        """The user as plain values."""
        known = {
            "uid": self.uid,
            "gid": self.gid,
            "umask": self.umask,
            "additionalGids": list(self.additional_gids) or None,
        }
        return merge(known, self.extra)


@frozen
class Capabilities:
    """``process.capabilities``: five sets of names such as ``CAP_KILL``."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: object, path: str = "") -> Capabilities:
        """Read them, or raise `SpecError`."""
        fields = Fields(value, path)
        return cls(*(fields.texts(name) for name in _CAPABILITY_SETS))

    def to_json(self) -> Json:
        """The sets as plain values."""
        return {name: list(getattr(self, name)) for name in _CAPABILITY_SETS}


@frozen
class Rlimit:
    """One of ``process.rlimits``: type such as ``RLIMIT_NOFILE``, and both limits."""

    type: str
    soft: int
    hard: int

    @classmethod
    def from_json(cls, value: object, path: str = "") -> Rlimit:
        """Read one, or raise `SpecError`."""
        fields = Fields(value, path)
        fields.require("type", "soft", "hard")
        return cls(
            fields.text("type"),
            fields.integer("soft", least=0),
            fields.integer("hard", least=0),
        )

    def to_json(self) -> Json:
        """The limit as plain values."""
        return {"type": self.type, "hard": self.hard, "soft": self.soft}


@frozen
class Process:
    """``process``: what is executed, and as whom."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = field(factory=User)
    terminal: bool = False
    capabilities: Capabilities = field(factory=Capabilities)
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    apparmor_profile: str = ""
    selinux_label: str = ""
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)

    @classmethod
    def from_json(cls, value: object, path: str = "process") -> Process:
        """Read it, or raise `SpecError`."""
        fields = Fields(value, path)
        args, cwd = fields.texts("args"), fields.text("cwd", "/")
        if not args:
            raise SpecError("a container needs a command", path=fields.at("args"))
        if not cwd.startswith("/"):
            raise SpecError(f"{cwd!r} is not absolute", path=fields.at("cwd"))
        rlimits = fields.each("rlimits", Rlimit.from_json)
        refuse_twice([limit.type for limit in rlimits], fields.at("rlimits"))
        return cls(
            args=args,
            env=fields.texts("env"),
            cwd=cwd,
            user=fields.optional("user", User.from_json) or User(),
            terminal=fields.flag("terminal"),
            capabilities=fields.optional("capabilities", Capabilities.from_json) or Capabilities(),
            rlimits=rlimits,
            no_new_privileges=fields.flag("noNewPrivileges"),
            oom_score_adj=fields.optional_integer("oomScoreAdj", least=-1000, most=1000),
            apparmor_profile=fields.text("apparmorProfile"),
            selinux_label=fields.text("selinuxLabel"),
            extra=fields.rest(),
        )

    def to_json(self) -> Json:
        """The process as plain values."""
        known = {
            "terminal": self.terminal or None,
            "user": self.user.to_json(),
            "args": list(self.args),
            "env": list(self.env) or None,
            "cwd": self.cwd,
            "capabilities": self.capabilities.to_json(),
            "rlimits": [limit.to_json() for limit in self.rlimits] or None,
            "noNewPrivileges": self.no_new_privileges,
            "oomScoreAdj": self.oom_score_adj,
            "apparmorProfile": self.apparmor_profile or None,
            "selinuxLabel": self.selinux_label or None,
        }
        return merge(known, self.extra)
