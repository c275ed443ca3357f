"""How a container's root file system is put together, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RootfsPlan", "WirePlan"]


class WirePlan(TypedDict):
    """A plan as plain values, for `marshal` and JSON."""

    kind: Literal["overlay", "directory"]
    lowers: list[str]
    upper: str | None
    work: str | None
    path: str | None
    userxattr: bool
    volatile: bool
    readonly: bool


@frozen(kw_only=True)
class RootfsPlan:
    """What has to be mounted to get a root file system; whoever owns the mount namespace does it.

    Attributes:
        kind: ``overlay``: mount `lowers` and `upper`; ``directory``: bind `path`, a finished copy.
        lowers: Layers, the topmost first: directories, and EROFS images, whose names say so. Of a
            copy: what it was made from.
        upper: Where an overlay's changes go; None if there can be none.
        work: Overlay's work directory beside `upper`.
        path: The directory of a copy.
        userxattr: Overlay keeps its marks in ``user.overlay.*``: mounts in a user namespace must.
        volatile: The upper is not synced: a crash of the machine may spoil it.
        readonly: Nothing can be written.
    """

    kind: Literal["overlay", "directory"]
    lowers: tuple[str, ...]
    upper: str | None = None
    work: str | None = None
    path: str | None = None
    userxattr: bool = False
    volatile: bool = False
    readonly: bool = False

    def to_wire(self) -> WirePlan:
        """The plan as plain values."""
        return {
            "kind": self.kind,
            "lowers": list(self.lowers),
            "upper": self.upper,
            "work": self.work,
            "path": self.path,
            "userxattr": self.userxattr,
            "volatile": self.volatile,
            "readonly": self.readonly,
        }

    @classmethod
    def from_wire(cls, values: WirePlan | Mapping[str, object]) -> RootfsPlan:
        """The plan that `to_wire` made plain values of."""
        fields = dict(values)
        lowers = fields.pop("lowers")
        assert isinstance(lowers, list)
        return cls(lowers=tuple(lowers), **fields)  # type: ignore[arg-type]
