"""COPY with Docker's rules, on images from scratch."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from built_images import contents_of, files_of, layers_of
from pycontainer.build import Builder, Event, VertexCached
from pycontainer.build import _copy as copy_module
from pycontainer.content import Store
from pycontainer.errors import BuildError
from pycontainer.images import Image
from pycontainer.layers import Kind, Ownership

Build = Callable[[Builder], Image]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    return path


@pytest.fixture
def build(store: Store, context: Path) -> Build:
    return partial(Builder.build, store=store, context=context, source_date_epoch=0)


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


# --- where files go ------------------------------------------------------------------------------


def test_a_file_gets_the_destinations_name(build: Build, context: Path) -> None:
    write(context, {"a": "A"})
    assert contents_of(build(Builder.scratch().copy("a", "/b/c"))) == {"b/c": b"A"}


def test_a_file_goes_into_a_destination_with_a_slash(build: Build, context: Path) -> None:
    write(context, {"d/a": "A"})
    assert contents_of(build(Builder.scratch().copy("d/a", "/b/"))) == {"b/a": b"A"}


def test_a_file_goes_into_a_directory_of_the_image(build: Build, context: Path) -> None:
    write(context, {"a": "A", "b": "B"})
    builder = Builder.scratch().copy("a", "/dir/").copy("b", "/dir")
    assert contents_of(build(builder)) == {"dir/a": b"A", "dir/b": b"B"}


def test_a_file_replaces_a_file(build: Build, context: Path) -> None:
    write(context, {"a": "A", "b": "B"})
    assert contents_of(build(Builder.scratch().copy("a", "/x").copy("b", "/x"))) == {"x": b"B"}


@pytest.mark.parametrize("source", ["src", "src/", "./src", "/src", "src/.", "src/sub/.."])
@pytest.mark.parametrize("destination", ["/app", "/app/"])
def test_of_a_directory_the_content_is_copied(
    build: Build, context: Path, source: str, destination: str
) -> None:
    write(context, {"src/a": "A", "src/sub/b": "B"})
    image = build(Builder.scratch().copy(source, destination))
    assert contents_of(image) == {"app/a": b"A", "app/sub/b": b"B"}


def test_the_whole_context_is_copied(build: Build, context: Path) -> None:
    write(context, {"a": "A", ".hidden": "H", "sub/b": "B"})
    image = build(Builder.scratch().copy(".", "/"))
    assert contents_of(image) == {"a": b"A", ".hidden": b"H", "sub/b": b"B"}


def test_several_sources_go_into_a_directory(build: Build, context: Path) -> None:
    write(context, {"a": "A", "b": "B", "d/c": "C"})
    image = build(Builder.scratch().copy(["a", "b", "d"], "/x/"))
    assert contents_of(image) == {"x/a": b"A", "x/b": b"B", "x/c": b"C"}


def test_a_dot_is_a_directory(build: Build, context: Path) -> None:
    write(context, {"a": "A", "b": "B"})
    assert contents_of(build(Builder.scratch().workdir("/w").copy(["a", "b"], "."))) == {
        "w/a": b"A",
        "w/b": b"B",
    }


def test_several_sources_need_a_slash(build: Build, context: Path) -> None:
    write(context, {"a.py": "A", "b.py": "B"})
    with pytest.raises(BuildError, match=r"2 files .* write the destination as /x/"):
        build(Builder.scratch().copy(["a.py", "b.py"], "/x"))
    with pytest.raises(BuildError, match="2 files"):
        build(Builder.scratch().copy("*.py", "/x"))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.py", {"main.py": b"1", "test.py": b"2"}),
        ("[a-m]*.py", {"main.py": b"1"}),
        ("*", {"main.py": b"1", "test.py": b"2", "x.txt": b"4", "b.py": b"3"}),
        ("*/b.py", {"b.py": b"3"}),
        ("pkg*", {"b.py": b"3"}),
        ("?ain.py", {"main.py": b"1"}),
    ],
)
def test_patterns(build: Build, context: Path, pattern: str, found: Mapping[str, bytes]) -> None:
    write(context, {"main.py": "1", "test.py": "2", "pkg/b.py": "3", "x.txt": "4"})
    image = build(Builder.scratch().copy(pattern, "/"))
    assert contents_of(image) == found


def test_a_backslash_takes_a_special_character_as_it_is(build: Build, context: Path) -> None:
    write(context, {"a*b": "1", "axb": "2"})
    assert contents_of(build(Builder.scratch().copy("a\\*b", "/"))) == {"a*b": b"1"}


def test_relative_destinations_begin_at_the_working_directory(build: Build, context: Path) -> None:
    write(context, {"a": "A"})
    image = build(Builder.scratch().workdir("/srv").workdir("app").copy("a", "etc/../x"))
    assert contents_of(image) == {"srv/app/x": b"A"}


# --- what files look like ------------------------------------------------------------------------


def test_missing_directories_are_made_and_existing_stay_as_they_are(
    build: Build, context: Path
) -> None:
    write(context, {"root/tmp/keep": "", "a": "A"})
    (context / "root/tmp").chmod(0o1777)
    image = build(Builder.scratch().copy("root", "/").copy("a", "/tmp/new/deep/a"))
    top = layers_of(image)[1]
    assert {path: (file.kind, oct(file.mode), file.owner) for path, file in top.items()} == {
        "tmp": (Kind.DIRECTORY, "0o1777", (0, 0)),
        "tmp/new": (Kind.DIRECTORY, "0o755", (0, 0)),
        "tmp/new/deep": (Kind.DIRECTORY, "0o755", (0, 0)),
        "tmp/new/deep/a": (Kind.FILE, "0o644", (0, 0)),
    }


def test_modes_and_times(store: Store, context: Path) -> None:
    write(context, {"d/a": "A"})
    (context / "d/a").chmod(0o4751)
    (context / "d").chmod(0o700)
    builder = Builder.scratch().copy("d", "/x/y")
    image = builder.build(store=store, context=context, source_date_epoch=1_700_000_000)
    files = files_of(image)
    assert files["x/y"].mode == 0o755
    assert files["x/y/a"].mode == 0o4751
    assert {file.mtime_ns for file in files.values()} == {1_700_000_000 * 10**9}
    assert image.config.created == "2023-11-14T22:13:20Z"


def test_a_mode_for_all(build: Build, context: Path) -> None:
    write(context, {"d/sub/a": "A"})
    (context / "d/link").symlink_to("sub")
    files = files_of(build(Builder.scratch().copy("d", "/x", mode=0o711)))
    assert {path: oct(file.mode) for path, file in files.items()} == {
        "x": "0o755",
        "x/link": "0o777",
        "x/sub": "0o711",
        "x/sub/a": "0o711",
    }


PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:app\n"


@pytest.mark.parametrize(
    ("owner", "found"),
    [
        ("app", (1000, 1001)),
        ("app:staff", (1000, 50)),
        ("7", (7, 7)),
        (7, (7, 7)),
        ("7:8", (7, 8)),
        ("7:staff", (7, 50)),
        (None, (0, 0)),
    ],
)
def test_owners(
    build: Build, context: Path, owner: str | int | None, found: tuple[int, int]
) -> None:
    write(context, {"etc/etc/passwd": PASSWD, "etc/etc/group": GROUP, "d/sub/a": "A"})
    image = build(Builder.scratch().copy("etc", "/").copy("d", "/new", owner=owner))
    assert {file.owner for file in layers_of(image)[1].values()} == {found}


def test_an_unknown_owner(build: Build, context: Path) -> None:
    write(context, {"a": "A"})
    with pytest.raises(BuildError, match=r"owner 'app': .*passwd"):
        build(Builder.scratch().copy("a", "/", owner="app"))


def test_hard_links_in_the_context_are_files_of_their_own(build: Build, context: Path) -> None:
    write(context, {"d/a": "A"})
    (context / "d/b").hardlink_to(context / "d/a")
    assert contents_of(build(Builder.scratch().copy("d", "/"))) == {"a": b"A", "b": b"A"}


def test_attributes_of_the_context_stay_behind(build: Build, context: Path) -> None:
    write(context, {"a": "A"})
    plain = build(Builder.scratch().copy("a", "/"))
    os.setxattr(context / "a", "user.origin", b"https://example.org")
    assert build(Builder.scratch().copy("a", "/")).digest == plain.digest


def make_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)  # the whole path may be too long for sun_path
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def test_fifos_are_copied_and_sockets_are_not(build: Build, context: Path) -> None:
    (context / "d").mkdir()
    os.mkfifo(context / "d/fifo")
    make_socket(context / "d/socket")
    files = files_of(build(Builder.scratch().copy("d", "/x")))
    assert {path: file.kind for path, file in files.items()} == {
        "x": Kind.DIRECTORY,
        "x/fifo": Kind.FIFO,
    }
    with pytest.raises(BuildError, match="d/socket is a socket"):
        build(Builder.scratch().copy("d/socket", "/"))


# --- symlinks ------------------------------------------------------------------------------------


def test_a_symlink_that_is_named_is_followed_within_the_context(
    build: Build, context: Path
) -> None:
    write(context, {"real/a": "A"})
    (context / "dir").symlink_to("/real")
    (context / "file").symlink_to("dir/a")
    image = build(Builder.scratch().copy(["dir", "file"], "/x/"))
    assert contents_of(image) == {"x/a": b"A", "x/file": b"A"}


def test_symlinks_below_a_directory_stay_symlinks(build: Build, context: Path) -> None:
    write(context, {"d/a": "A"})
    (context / "d/out").symlink_to("/etc/passwd")
    (context / "d/in").symlink_to("a")
    files = files_of(build(Builder.scratch().copy("d", "/x")))
    assert files["x/out"].link == "/etc/passwd"
    assert files["x/in"].link == "a"


@pytest.mark.parametrize("target", ["real", "/real", "../../real", "hop"])
def test_symlinks_of_the_image_are_followed_within_it(
    build: Build, context: Path, target: str
) -> None:
    write(context, {"root/real/keep": "", "a": "A"})
    (context / "root/link").symlink_to(target)
    (context / "root/hop").symlink_to("./real")
    image = build(Builder.scratch().copy("root", "/").copy("a", "/link/sub/").copy("a", "/link"))
    assert contents_of(image) == {"real/keep": b"", "real/sub/a": b"A", "real/a": b"A"}


def test_a_dangling_symlink_of_the_image_says_where(build: Build, context: Path) -> None:
    write(context, {"a": "A", "root/x": ""})
    (context / "root/link").symlink_to("/data/file")
    image = build(Builder.scratch().copy("root", "/").copy("a", "/link"))
    assert contents_of(image)["data/file"] == b"A"


def test_symlinks_in_circles(build: Build, context: Path) -> None:
    write(context, {"a": "A", "root/x": ""})
    (context / "root/one").symlink_to("two")
    (context / "root/two").symlink_to("one")
    with pytest.raises(BuildError, match="too many symlinks"):
        build(Builder.scratch().copy("root", "/").copy("a", "/one/"))


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["gone", "d/gone", "*.rs", "d/a/b"])
def test_a_missing_source_is_named_with_its_context(
    build: Build, context: Path, source: str
) -> None:
    write(context, {"d/a": "A"})
    with pytest.raises(BuildError) as caught:
        build(Builder.scratch().copy(source, "/"))
    assert repr(source) in str(caught.value)
    assert str(context) in str(caught.value)


@pytest.mark.parametrize("source", ["..", "../secret", "d/../../secret", "/../secret"])
def test_nothing_outside_the_context_is_copied(build: Build, context: Path, source: str) -> None:
    write(context, {"d/a": "A", "../secret": "S"})
    with pytest.raises(BuildError, match="leads out of the context"):
        build(Builder.scratch().copy(source, "/"))


@pytest.mark.parametrize("target", ["../secret", "{outside}/secret"])
def test_no_symlink_leads_out_of_the_context(build: Build, context: Path, target: str) -> None:
    write(context, {"../secret": "S"})
    (context / "link").symlink_to(target.format(outside=context.parent))
    with pytest.raises(BuildError, match="leads nowhere within the context"):
        build(Builder.scratch().copy("link", "/"))


def test_a_broken_pattern(build: Build, context: Path) -> None:
    write(context, {"a": "A"})
    with pytest.raises(BuildError, match=r"'\[a': not a pattern"):
        build(Builder.scratch().copy("[a", "/"))


def test_a_context_that_is_no_directory(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is not a directory"):
        Builder.scratch().copy("a", "/").build(store=store, context=tmp_path / "gone")


def test_nothing_goes_below_a_file(build: Build, context: Path) -> None:
    write(context, {"a": "A", "d/b": "B"})
    base = Builder.scratch().copy("a", "/file")
    for destination in ("/file/", "/file/sub", "/file/sub/"):
        with pytest.raises(BuildError, match=r"/file.* is not a directory"):
            build(base.copy("a", destination))
    with pytest.raises(BuildError, match="/file is not a directory"):
        build(base.copy("d", "/file"))


def test_a_directory_does_not_replace_what_is_none(build: Build, context: Path) -> None:
    write(context, {"root/usr/lib/libc.so": "C", "new/lib/libnew.so": "N", "bad/usr": "U"})
    (context / "root/lib").symlink_to("usr/lib")
    base = Builder.scratch().copy("root", "/")
    with pytest.raises(BuildError, match=r"directory to /lib: .* a symlink"):
        build(base.copy("new", "/"))
    with pytest.raises(BuildError, match=r"file to /usr: .* is a directory"):
        build(base.copy("bad", "/"))


def test_files_that_change_meanwhile(
    build: Build, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(context, {"a": "A"})
    arrange = copy_module._CopyTask._arrange

    def change(*arguments: object) -> object:
        write(context, {"a": "B"})
        return arrange(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(copy_module._CopyTask, "_arrange", change)
    with pytest.raises(BuildError, match="changed while they were copied"):
        build(Builder.scratch().copy("a", "/"))


# --- from stages ---------------------------------------------------------------------------------


def test_files_of_a_stage_keep_their_owners(build: Build, context: Path) -> None:
    write(context, {"a": "A", "b": "B"})
    stage = Builder.scratch().copy("a", "/out/sub/", owner="3:4").copy("b", "/out/b")
    image = build(Builder.scratch().copy("/out", "/app", from_=stage))
    assert {path: file.owner for path, file in files_of(image).items()} == {
        "app": (0, 0),
        "app/b": (0, 0),
        "app/sub": (3, 4),
        "app/sub/a": (3, 4),
    }
    assert image.history[-1].created_by == "COPY /out /app"


def test_owners_of_a_stage_are_part_of_the_content(build: Build, context: Path) -> None:
    write(context, {"a": "A"})
    for owner in (3, 4):
        stage = Builder.scratch().copy("a", "/a", owner=owner)
        image = build(Builder.scratch().copy("/a", "/a", from_=stage))
        assert files_of(image)["a"].owner == (owner, owner)


def test_an_owner_for_files_of_a_stage(build: Build, context: Path) -> None:
    write(context, {"a": "A"})
    stage = Builder.scratch().copy("a", "/a", owner="3:4")
    image = build(Builder.scratch().copy("/a", "/x/", from_=stage, owner="5:6"))
    assert {file.owner for file in files_of(image).values()} == {(5, 6)}


def test_the_layers_of_a_stage_are_seen_as_one_tree(build: Build, context: Path) -> None:
    write(context, {"one/d/a": "1", "one/d/b": "1", "two/d/b": "2"})
    (context / "one/link").symlink_to("/d")
    stage = Builder.scratch().copy("one", "/").copy("two", "/")
    image = build(Builder.scratch().copy("link/*", "/x/", from_=stage))
    assert contents_of(image) == {"x/a": b"1", "x/b": b"2"}


def test_an_image_is_copied_from(build: Build, context: Path) -> None:
    write(context, {"a": "A"})
    source = build(Builder.scratch().copy("a", "/a"))
    image = build(Builder.scratch().copy("/a", "/b", from_=source))
    assert contents_of(image) == {"b": b"A"}
    assert image.history[-1].created_by == "COPY /a /b"


def test_a_missing_file_of_a_stage(build: Build) -> None:
    with pytest.raises(BuildError, match="'/gone': there is no such file in --from=stage"):
        build(Builder.scratch().copy("/gone", "/", from_=Builder.scratch()))


# --- empty copies, the cache, digests ------------------------------------------------------------


def test_names_with_spaces(build: Build, context: Path) -> None:
    write(context, {"a b": "A"})
    image = build(Builder.scratch().copy("a b", "/c d"))
    assert contents_of(image) == {"c d": b"A"}
    assert image.history[0].created_by == 'COPY ["a b", "/c d"]'


def test_an_empty_directory_makes_its_destination_or_nothing(build: Build, context: Path) -> None:
    (context / "empty").mkdir()
    image = build(Builder.scratch().copy("empty", "/x").copy("empty", "/x"))
    assert [list(layer) for layer in layers_of(image)] == [["x"]]
    assert [entry.empty_layer for entry in image.history] == [False, True]


def cached(builder: Builder, store: Store, context: Path) -> list[str]:
    events: list[Event] = []
    builder.build(store=store, context=context, progress=events.append)
    return [event.title for event in events if isinstance(event, VertexCached)]


def test_the_cache_goes_by_content(store: Store, context: Path) -> None:
    write(context, {"d/a": "A"})
    builder = Builder.scratch().copy("d", "/x")
    assert cached(builder, store, context) == []
    assert cached(builder, store, context) == ["COPY d /x"]

    os.utime(context / "d/a", (1, 1))
    assert cached(builder, store, context) == ["COPY d /x"]
    write(context, {"unrelated": "?"})
    assert cached(builder, store, context) == ["COPY d /x"]

    (context / "d/a").chmod(0o600)
    assert cached(builder, store, context) == []
    write(context, {"d/a": "B"})
    assert cached(builder, store, context) == []
    (context / "d/a").rename(context / "d/b")
    assert cached(builder, store, context) == []
    assert cached(Builder.scratch().copy("d", "/y"), store, context) == []


def test_a_stage_with_the_same_files_is_found_in_the_cache(store: Store, context: Path) -> None:
    write(context, {"a": "A", "b": "B"})
    stage = Builder.scratch().copy("a", "/out/a")
    title = "COPY --from=stage /out /x"
    assert cached(Builder.scratch().copy("/out", "/x", from_=stage), store, context) == []
    other = stage.copy("b", "/elsewhere")
    for _ in range(2):
        found = cached(Builder.scratch().copy("/out", "/x", from_=other), store, context)
        assert title in found


def test_one_digest_for_root_and_for_ordinary_users(
    tmp_path: Path, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(context, {"etc/etc/passwd": PASSWD, "d/a": "A"})
    (context / "d/a").chmod(0o4711)
    stage = Builder.scratch().copy("etc", "/").copy("d", "/out/d", owner="app")
    builder = stage.copy("/out", "/again", from_=stage).workdir("/again/d/new")
    digests = set()
    for ownership in (Ownership.current(), Ownership.USER):
        monkeypatch.setattr(Ownership, "current", lambda found=ownership: found)
        with Store.open(tmp_path / ownership.value) as store:
            image = builder.build(store=store, context=context)
            assert files_of(image)["again/d"].owner == (1000, 1001)
            digests.add(image.digest)
    assert len(digests) == 1


def test_one_digest_in_two_stores_two_directories_on_two_days(tmp_path: Path) -> None:
    digests = set()
    for number, day in enumerate((0, 1_000_000)):
        context = tmp_path / f"{number}/some/where"
        names = ["src/a", "src/sub/b", "c"]
        write(context, {name: name for name in (names if number else reversed(names))})
        for path in context.rglob("*"):
            os.utime(path, (day, day))
        with Store.open(tmp_path / f"store{number}") as store:
            stage = Builder.scratch().workdir("/w").copy("src", ".")
            builder = Builder.scratch().copy("c", "/").copy("/w/sub", "/x", from_=stage)
            image = builder.env({"A": "b"}).build(store=store, context=context)
            digests.add((image.digest, image.id))
    assert len(digests) == 1
