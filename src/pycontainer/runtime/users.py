"""Users and groups as a container's own files name them (passwd(5), group(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.errors import UnknownUser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ResolvedUser", "resolve_user"]

_PASSWD = "/etc/passwd"  # noqa: S105
_GROUP = "/etc/group"
_MOST = (1 << 31) - 1  # as Docker has it


@frozen
class ResolvedUser:
    """Who a process runs as.

    Attributes:
        uid: User id.
        gid: Primary group id.
        groups: Supplementary group ids, ascending.
        home: Home directory; ``/`` for a user that the files do not know.
    """

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve_user(
    text: str, read: Callable[[str], bytes | None], *, extra_groups: Sequence[str] = ()
) -> ResolvedUser:
    """Look up ``user``, ``user:group``, ``uid`` or ``uid:gid`` as the image specification has it.

    A number that the files do not list stands for itself, with group 0 and home ``/``. With an
    explicit group there are no supplementary ones from the files, as with Docker.

    Args:
        text: What the image's config or the caller says; empty means root.
        read: Returns the content of a file of the container, or None if there is none.
        extra_groups: Further groups by name or number.

    Raises:
        UnknownUser: A name is not listed, or a number is no id.
    """
    user, colon, group = text.partition(":")
    user = user or "0"
    row = _find(_rows(read(_PASSWD), 7), user)
    if row is not None:
        uid, gid, home = int(row[2]), int(row[3]), row[5] or "/"
    elif user.isdecimal():
        uid, gid, home = int(user), 0, "/"
    else:
        raise _unknown("user", user, _PASSWD)
    groups: set[int] = set()
    if colon and group:
        gid = _group_id(group, read)
    elif row is not None:
        listed = _rows(read(_GROUP), 4)
        groups = {int(line[2]) for line in listed if row[0] in line[3].split(",")}
    groups.update(_group_id(name, read) for name in extra_groups)
    for number in (uid, gid, *groups):
        if number > _MOST:  # the kernel takes -1 for "as it is", and only 32 bits of any
            raise UnknownUser(
                f"user {text!r} has the id {number}; ids go from 0 to {_MOST}",
                step="look up the user",
                remedy="give another number",
            )
    return ResolvedUser(uid, gid, tuple(sorted(groups)), home)


def _group_id(name: str, read: Callable[[str], bytes | None]) -> int:
    row = _find(_rows(read(_GROUP), 4), name)
    if row is not None:
        return int(row[2])
    if name.isdecimal():
        return int(name)
    raise _unknown("group", name, _GROUP)


def _rows(data: bytes | None, fields: int) -> Iterator[list[str]]:
    """Lines with that many fields and numbers where numbers belong; others are passed over."""
    for line in (data or b"").decode("utf-8", "surrogateescape").splitlines():
        row = line.split(":")
        if len(row) == fields and row[2].isdecimal() and (fields == 4 or row[3].isdecimal()):
            yield row


def _find(rows: Iterator[list[str]], wanted: str) -> list[str] | None:
    """The row of that name, else the first of that number: names win, as in Docker."""
    listed = list(rows)
    by_name = next((row for row in listed if row[0] == wanted), None)
    if by_name is not None or not wanted.isdecimal():
        return by_name
    return next((row for row in listed if row[2] == str(int(wanted))), None)


def _unknown(kind: str, name: str, where: str) -> UnknownUser:
    return UnknownUser(
        f"{kind} {name!r} is not listed in the container's {where}",
        step=f"look up the {kind}",
        remedy=f"add it to {where} in the image or give a number",
    )
