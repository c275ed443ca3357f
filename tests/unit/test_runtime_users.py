"""Users and groups as the container's files name them."""

from __future__ import annotations

import pytest

from pycontainer.errors import UnknownUser
from pycontainer.runtime import ResolvedUser, resolve_user

PASSWD = b"""\
root:x:0:0:root:/root:/bin/sh
web:x:33:33:web:/var/www:/usr/sbin/nologin
1000:x:7:7:a name of digits:/digits:/bin/sh
broken line
nobody:x:65534:65534:nobody::/usr/sbin/nologin
"""
GROUP = b"root:x:0:\nweb:x:33:\nlog:x:4:web,root\naudio:x:29:web\n"


def read(path: str) -> bytes | None:
    return {"/etc/passwd": PASSWD, "/etc/group": GROUP}.get(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ResolvedUser(0, 0, (4,), "/root")),
        ("0", ResolvedUser(0, 0, (4,), "/root")),
        ("web", ResolvedUser(33, 33, (4, 29), "/var/www")),
        ("33", ResolvedUser(33, 33, (4, 29), "/var/www")),
        ("033", ResolvedUser(33, 33, (4, 29), "/var/www")),
        ("web:log", ResolvedUser(33, 4, (), "/var/www")),
        ("web:123", ResolvedUser(33, 123, (), "/var/www")),
        ("4711", ResolvedUser(4711, 0, (), "/")),
        ("4711:4712", ResolvedUser(4711, 4712, (), "/")),
        ("1000", ResolvedUser(7, 7, (), "/digits")),
        (":log", ResolvedUser(0, 4, (), "/root")),
        ("nobody", ResolvedUser(65534, 65534, (), "/")),
    ],
)
def test_users_are_looked_up_as_docker_does(text: str, expected: ResolvedUser) -> None:
    assert resolve_user(text, read) == expected


@pytest.mark.parametrize("text", ["nobody-like", "web:staff", "broken line"])
def test_an_unknown_name_is_an_error_that_names_the_file(text: str) -> None:
    with pytest.raises(UnknownUser, match=r"is not listed in the container's /etc/(passwd|group)"):
        resolve_user(text, read)


def test_an_image_without_files_still_has_root_and_numbers() -> None:
    assert resolve_user("", lambda _: None) == ResolvedUser(0, 0, (), "/")
    assert resolve_user("5:6", lambda _: None) == ResolvedUser(5, 6, (), "/")


def test_extra_groups_add_to_those_of_the_files() -> None:
    assert resolve_user("web", read, extra_groups=["root", "77"]).groups == (0, 4, 29, 77)
