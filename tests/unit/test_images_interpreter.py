"""What an image of the running interpreter is made of."""

from __future__ import annotations

import importlib.util
import marshal
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pycontainer.content import Store
from pycontainer.errors import ImageError
from pycontainer.images import Image
from pycontainer.images._interpreter import Copy, Interpreter, gather
from pycontainer.images._interpreter.bytecode import cache_path, compile_sources
from pycontainer.images._interpreter.distributions import (
    console_scripts,
    files_of,
    with_requirements,
)
from pycontainer.images._interpreter.elf import Elf, read_elf
from pycontainer.images._interpreter.libraries import Libraries, read_cache
from pycontainer.images._interpreter.tree import FileTree
from pycontainer.layers import Entry, Kind

# --- ELF -------------------------------------------------------------------------------------


def elf_file(
    *,
    needed: tuple[str, ...] = (),
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
    interpreter: str = "",
    word: int = 2,
    order: int = 1,
) -> bytes:
    """A file with no code but all that the dynamic loader reads."""
    end = "<" if order == 1 else ">"
    is_64 = word == 2
    header_size, entry_size = (64, 56) if is_64 else (52, 32)
    number = "Q" if is_64 else "I"
    strings = b"\0"
    tags: list[tuple[int, int]] = []
    for tag, text in [
        *((1, name) for name in needed),
        *((tag, text) for tag, text in ((14, soname), (15, rpath), (29, runpath)) if text),
    ]:
        tags.append((tag, len(strings)))
        strings += text.encode() + b"\0"
    place = header_size + 3 * entry_size
    base = 0x10000
    tags += [(5, base + place), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack(end + number * 2, *tag) for tag in tags)
    loader = interpreter.encode() + b"\0"
    whole = strings + dynamic + loader

    def segment(kind: int, offset: int, size: int) -> bytes:
        if is_64:
            return struct.pack(end + "IIQQQQQQ", kind, 4, offset, base + offset, 0, size, size, 8)
        return struct.pack(end + "IIIIIIII", kind, offset, base + offset, 0, size, size, 4, 4)

    segments = segment(1, 0, place + len(whole))
    segments += segment(2, place + len(strings), len(dynamic))
    segments += segment(3 if interpreter else 0, place + len(strings) + len(dynamic), len(loader))
    identity = b"\x7fELF" + bytes([word, order, 1]) + bytes(9)
    fields = (3, 62, 1, 0, header_size, 0, 0, header_size, entry_size, 3, 0, 0, 0)
    header = identity + struct.pack(end + "HHI" + number * 3 + "IHHHHHH", *fields)
    return header + segments + whole


@pytest.mark.parametrize("word", [1, 2])
@pytest.mark.parametrize("order", [1, 2])
def test_elf_files_of_all_kinds(tmp_path: Path, word: int, order: int) -> None:
    (tmp_path / "lib").write_bytes(
        elf_file(
            needed=("libc.so.6", "libm.so.6"),
            soname="libx.so.1",
            rpath="/a:/b",
            runpath="$ORIGIN/../lib",
            interpreter="/lib/ld.so",
            word=word,
            order=order,
        )
    )
    assert read_elf(tmp_path / "lib") == Elf(
        (word, order, 62),
        interpreter="/lib/ld.so",
        soname="libx.so.1",
        needed=("libc.so.6", "libm.so.6"),
        rpath=("/a", "/b"),
        runpath=("$ORIGIN/../lib",),
    )


def test_what_is_no_elf_file_is_none(tmp_path: Path) -> None:
    whole = elf_file(needed=("libc.so.6",))
    for i, data in enumerate((b"", b"#!/bin/sh\n", b"\x7fELF", whole[:100], whole[:-40])):
        (tmp_path / str(i)).write_bytes(data)
        assert read_elf(tmp_path / str(i)) is None


def test_damage_never_raises(tmp_path: Path) -> None:
    whole = bytearray(elf_file(needed=("libc.so.6",), interpreter="/lib/ld.so"))
    for at in range(16, len(whole)):
        damaged = bytes(whole[:at]) + b"\xff" + bytes(whole[at + 1 :])
        (tmp_path / "x").write_bytes(damaged)
        read_elf(tmp_path / "x")


# --- libraries -------------------------------------------------------------------------------


def cache(*libraries: tuple[str, str, int], old_format: bool = False) -> bytes:
    """An ld.so.cache; each library with its capabilities."""
    strings, entries = b"", b""
    start = 48 + 24 * len(libraries)
    for name, path, capabilities in libraries:
        key = start + len(strings)
        strings += name.encode() + b"\0"
        value = start + len(strings)
        strings += path.encode() + b"\0"
        entries += struct.pack("=iIIIQ", 0x303, key, value, 0, capabilities)
    header = struct.pack("=20sII20x", b"glibc-ld.so.cache1.1", len(libraries), len(strings))
    before = b"ld.so-1.7.0\0" + bytes(4) if old_format else b""
    return before + header + entries + strings


@pytest.mark.parametrize("old_format", [False, True])
def test_the_cache_of_the_loader(old_format: bool) -> None:
    data = cache(
        ("liba.so", "/x/liba.so", 0),
        ("liba.so", "/x/haswell/liba.so", 1 << 62),
        ("liba.so", "/y/liba.so", 0),
        old_format=old_format,
    )
    assert read_cache(data) == {"liba.so": ["/x/liba.so", "/y/liba.so"]}
    assert read_cache(b"something else") == {}


@pytest.mark.skipif(not Path("/etc/ld.so.cache").exists(), reason="musl has no cache")
def test_this_machines_cache() -> None:
    libraries = read_cache(Path("/etc/ld.so.cache").read_bytes())
    assert any(name.startswith("libc.so") for name in libraries)
    assert all(path.startswith("/") for paths in libraries.values() for path in paths)


def _lib(path: Path, **parts: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(elf_file(**parts))  # type: ignore[arg-type]
    return path


def test_libraries_are_found_as_the_loader_finds_them(tmp_path: Path) -> None:
    program = _lib(
        tmp_path / "bin/program",
        needed=("liba.so", "libcached.so", "libenv.so"),
        rpath="$ORIGIN/../lib",
        interpreter=str(tmp_path / "lib/ld.so"),
    )
    _lib(tmp_path / "lib/ld.so")
    _lib(tmp_path / "lib/liba.so", needed=("libb.so", "ld.so"), runpath="${ORIGIN}/deeper")
    _lib(tmp_path / "lib/deeper/libb.so", needed=("libdefault.so",), word=2)
    _lib(tmp_path / "lib/libdefault.so")
    _lib(tmp_path / "wrong/libcached.so", word=1)  # of another machine: passed over
    _lib(tmp_path / "cached/libcached.so")
    _lib(tmp_path / "env/libenv.so")
    libraries = Libraries(
        cache={"libcached.so": [str(tmp_path / d / "libcached.so") for d in ("wrong", "cached")]},
        environment={"LD_LIBRARY_PATH": str(tmp_path / "env")},
    )
    libraries.add_program(program)
    found = {
        lib.name: (str(lib.path.resolve().relative_to(tmp_path)), lib.by_search)
        for lib in libraries.found
        if lib.path.is_relative_to(tmp_path)
    }
    assert found == {
        "liba.so": ("lib/liba.so", True),
        "libb.so": ("lib/deeper/libb.so", True),
        "libcached.so": ("cached/libcached.so", False),
        "libdefault.so": ("lib/libdefault.so", True),  # the program's DT_RPATH is inherited
        "libenv.so": ("env/libenv.so", False),
    }
    assert libraries.loaders == {tmp_path / "lib/ld.so"}


def test_a_program_without_its_libraries_is_refused(tmp_path: Path) -> None:
    program = _lib(tmp_path / "p", needed=("libnowhere.so",))
    with pytest.raises(ImageError, match=r"needs libnowhere\.so"):
        Libraries(cache={}, environment={}).add_program(program)
    extension = _lib(tmp_path / "e", needed=("libnowhere.so",))
    good = _lib(tmp_path / "g")
    libraries = Libraries(cache={}, environment={})
    libraries.add_program(good)
    assert libraries.add_extension(extension, good) == ("libnowhere.so",)


def test_the_loader_itself_agrees_for_this_interpreter() -> None:
    """``LD_TRACE_LOADED_OBJECTS`` is what ldd(1) sets."""
    program = Interpreter.current().executable
    libraries = Libraries()
    libraries.add_program(program)
    traced = subprocess.run(
        [program],
        env={**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"},
        capture_output=True,
        text=True,
    ).stdout
    expected = {
        line.split()[0]: Path(line.split()[2]).resolve()
        for line in traced.splitlines()
        if "=> /" in line
    }
    found = {library.name: library.path.resolve() for library in libraries.found}
    assert expected
    assert {name: found.get(name) for name in expected} == expected


# --- the tree --------------------------------------------------------------------------------


def test_a_tree_of_files_to_be(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/prog").write_bytes(b"binary")
    (tmp_path / "real/prog").chmod(0o700)
    (tmp_path / "real/name").symlink_to("prog")
    (tmp_path / "dir").symlink_to(tmp_path / "real")
    tree = FileTree()
    assert tree.add_host_file(tmp_path / "dir/name") == str(tmp_path / "real/prog")
    tree.add_file(f"{tmp_path}/dir/more", b"bytes")
    tree.add_directory("/tmp/x", 0o1777)
    tree.add_link("/b", "a")
    tree.add_file("/b.txt", b"")
    tree.add_file("/b-/c", b"")
    assert f"{tmp_path}/real/more" in tree
    below = {
        os.fsdecode(entry.path).removeprefix(str(tmp_path)[1:] + "/"): entry
        for entry in tree.entries(mtime=7)
    }
    assert (below["dir"].kind, below["dir"].link) == (Kind.SYMLINK, bytes(tmp_path / "real"))
    assert below["real/name"].link == b"prog"
    assert (below["real/prog"].mode, _bytes(below["real/prog"])) == (0o755, b"binary")
    assert _bytes(below["real/more"]) == b"bytes"
    assert below["tmp/x"].mode == 0o1777
    entries = list(tree.entries(mtime=7))
    assert {(e.uid, e.gid, e.mtime_ns) for e in entries} == {(0, 0, 7_000_000_000)}
    paths = [entry.path.split(b"/") if entry.path else [] for entry in entries]
    assert paths == sorted(paths)


def _bytes(entry: Entry) -> bytes:
    assert entry.content is not None
    return b"".join(map(bytes, entry.content()))


def test_what_cannot_be_in_a_tree(tmp_path: Path) -> None:
    tree = FileTree()
    with pytest.raises(ImageError, match="No such file"):
        tree.add_host_file(tmp_path / "none")
    with pytest.raises(ImageError, match="not a regular file"):
        tree.add_host_file(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ImageError, match="circles"):
        tree.add_host_file(tmp_path / "loop")
    tree.add_file("/file", b"")
    with pytest.raises(ImageError, match="no directory"):
        tree.add_file("/file/below", b"")
    tree.add_link("/x", "/y")
    tree.add_link("/y", "/x")
    with pytest.raises(ImageError, match="circles"):
        tree.add_file("/x/below", b"")


# --- bytecode --------------------------------------------------------------------------------


def test_compiled_modules_depend_on_the_source_alone(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("def f(x):\n    return {'a', 'b', x}, ('a', 1.5), f.__name__\n")
    broken = tmp_path / "broken.py"
    broken.write_text("def (")
    interpreter = Path(sys.executable)
    wanted = [(source, "/lib/module.py"), (broken, "/lib/broken.py")]
    first, nothing = compile_sources(interpreter, wanted, mtime=5)
    assert nothing == b""
    os.utime(source, (1000, 1000))
    subprocess.run(
        [interpreter, "-c", f"import sys; sys.path[0] = {str(tmp_path)!r}; import module"]
    )
    assert compile_sources(interpreter, wanted, mtime=5)[0] == first
    assert first[:8] == importlib.util.MAGIC_NUMBER + bytes(4)
    assert int.from_bytes(first[8:12], "little") == 5
    assert int.from_bytes(first[12:16], "little") == source.stat().st_size
    code = marshal.loads(first[16:])
    assert code.co_filename == "/lib/module.py"
    space: dict[str, object] = {}
    exec(code, space)
    assert callable(space["f"])
    assert space["f"](1) == ({"a", "b", 1}, ("a", 1.5), "f")


def test_an_up_to_date_cache_is_used(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("x = 1\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", source], check=True)
    (fresh,) = compile_sources(Path(sys.executable), [(source, str(source))], mtime=0)
    stamp = source.stat()
    source.write_text("x = 2\n")  # time and size say that the cache is right
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert compile_sources(Path(sys.executable), [(source, str(source))], mtime=0) == [fresh]
    os.utime(source, (1, 1))
    assert compile_sources(Path(sys.executable), [(source, str(source))], mtime=0) != [fresh]


def test_an_interpreter_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot run"):
        compile_sources(tmp_path / "none", [], mtime=0)
    with pytest.raises(ImageError, match="cannot compile"):
        compile_sources(Path("/bin/false"), [], mtime=0)


# --- distributions ---------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of distributions on the path."""
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    return path


def _distribution(
    site: Path, name: str, *requires: str, files: dict[str, str] | None = None, **more: str
) -> None:
    info = site / f"{name}-1.dist-info"
    info.mkdir()
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(lines))
    for file, text in {**(files or {}), **more}.items():
        path = site / file.replace("INFO", info.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    record = [f"{info.name}/METADATA,,", f"{info.name}/RECORD,,"]
    record += [f"{file.replace('INFO', info.name)},," for file in {**(files or {}), **more}]
    (info / "RECORD").write_text("\n".join(record))


def test_requirements_come_along(site: Path) -> None:
    _distribution(site, "top", "middle>=1", 'maybe; python_version < "3"', 'x; extra == "more"')
    _distribution(site, "Middle", "bottom (>2) ; sys_platform == 'linux'", "top")
    _distribution(site, "bottom")
    _distribution(site, "x", "y[deep]")
    _distribution(site, "y", "z; extra == 'deep'")
    _distribution(site, "z")

    def names(*wanted: str) -> list[str]:
        return [found.metadata["Name"] for found in with_requirements(wanted)]

    assert names("top") == ["bottom", "Middle", "top"]
    assert names("Top[more]") == ["bottom", "Middle", "top", "x", "y", "z"]
    assert names() == []


def test_what_is_not_installed_says_so(site: Path) -> None:
    _distribution(site, "top", "surely-not-there>1")
    with pytest.raises(ImageError, match="top wants the distribution 'surely-not-there'"):
        with_requirements(["top"])
    with pytest.raises(ImageError, match="not the name"):
        with_requirements(["-x"])


def test_files_of_a_distribution(site: Path) -> None:
    _distribution(
        site,
        "pkg",
        files={
            "pkg/__init__.py": "",
            "pkg/data.txt": "d",
            "pkg/__pycache__/__init__.cpython-311.pyc": "c",
            "../../bin/tool": "script",
            "INFO/INSTALLER": "pip",
            "INFO/entry_points.txt": "[console_scripts]\ntool = pkg.main:App.run [extra]\n",
        },
    )
    (found,) = with_requirements(["pkg"])
    assert sorted(file.path for file in files_of(found)) == [
        "pkg-1.dist-info/METADATA",
        "pkg-1.dist-info/entry_points.txt",
        "pkg/__init__.py",
        "pkg/data.txt",
    ]
    ((name, text),) = console_scripts(found)
    assert name == "tool"
    assert text.startswith(b"#!/usr/local/bin/python3\n")
    assert b"from pkg.main import App\nsys.exit(App.run())" in text
    (site / "pkg/data.txt").unlink()
    with pytest.raises(ImageError, match="which is not there"):
        list(files_of(found))


def test_editable_distributions_are_followed(site: Path, tmp_path: Path) -> None:
    (tmp_path / "src/mine/__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "a.py", "__pycache__/a.pyc"):
        (tmp_path / "src/mine" / name).touch()
    (tmp_path / "src/single.py").touch()
    (tmp_path / "src/notes").mkdir()
    files = {
        "_mine.pth": str(tmp_path / "src"),
        "INFO/direct_url.json": '{"dir_info": {"editable": true}}',
    }
    _distribution(site, "mine", files=files)
    (found,) = with_requirements(["mine"])
    paths = [file.path for file in files_of(found)]
    assert paths == ["mine/__init__.py", "mine/a.py", "single.py", "mine-1.dist-info/METADATA"]
    (site / "_mine.pth").write_text("import finder; finder.install()")
    with pytest.raises(ImageError, match="by code"):
        list(files_of(found))


def test_distributions_without_a_record(site: Path) -> None:
    """As Debian's packages install them."""
    info = site / "old-1.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: old\nVersion: 1\n")
    (site / "old").mkdir()
    (site / "old/__init__.py").touch()
    (site / "_old.so").touch()
    (found,) = with_requirements(["old"])
    with pytest.raises(ImageError, match="which files"):
        list(files_of(found))
    (info / "top_level.txt").write_text("old\n_old\n")
    assert [file.path for file in files_of(found)] == ["_old.so", "old/__init__.py"]


# --- all of it -------------------------------------------------------------------------------


def test_what_is_gathered() -> None:
    interpreter = Interpreter.current()
    copy = gather(interpreter, ["attrs"], ["true"])
    tree = copy.tree
    entries = {"/" + os.fsdecode(entry.path): entry for entry in copy.entries()}
    library = str(interpreter.library)
    assert entries[str(interpreter.executable)].mode == 0o755
    for present in (
        f"{library}/os.py",
        cache_path(f"{library}/argparse.py"),
        f"{interpreter.packages}/attrs/__init__.py",
        "/etc/passwd",
        "/etc/ssl/certs/ca-certificates.crt",
        "/usr/local/bin/python3",
        "/proc",
    ):
        assert present in entries, present
    for absent in (f"{library}/test", f"{library}/idlelib", f"{library}/tkinter"):
        assert absent not in entries
    assert "/bin/sh" in tree
    assert entries["/tmp"].mode == 0o1777
    assert {(entry.uid, entry.gid, entry.mtime_ns) for entry in entries.values()} == {(0, 0, 0)}
    assert entries["/usr/local/bin/python"].link == bytes(interpreter.executable)
    with pytest.raises(ImageError, match="no program"):
        gather(interpreter, [], ["surely-not-there"])


def test_the_image_is_the_same_each_time(store: Store, tmp_path: Path) -> None:
    image = Image.from_interpreter("python:here", store=store)
    assert image.config.config.cmd == ("python3",)
    assert image.tags
    with Store.open(tmp_path / "other") as other:
        assert Image.from_interpreter(store=other) == image


def test_an_image_that_is_there_is_not_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.from_interpreter("python:here", store=store)
    with monkeypatch.context() as patch:
        patch.setattr(Copy, "entries", lambda copy: pytest.fail("made again"))
        again = Image.from_interpreter("python:there", store=store)
        assert again == image
        assert [tag.familiar for tag in again.tags] == ["python:here", "python:there"]
    for tag in again.tags:
        Image.get(tag, store=store).delete()
    store.collect()
    assert Image.from_interpreter(store=store) == image


def test_fingerprints_tell_what_has_changed(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_text("1")

    def fingerprint(mode: int = 0o644, data: bytes = b"x", link: str = "to") -> str:
        tree = FileTree()
        tree.add_file("/a", source, mode)
        tree.add_file("/b", data)
        tree.add_link("/c", link)
        return tree.fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    stamp = source.stat()
    source.write_text("2")
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    others = [fingerprint(), fingerprint(0o755), fingerprint(data=b"y"), fingerprint(link="x")]
    assert len({first, *others}) == 5


def test_without_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(sys, "_base_executable", "", raising=False)
    with pytest.raises(ImageError, match="no Python installation"):
        Interpreter.current()


def test_inside_an_environment_the_base_is_taken() -> None:
    assert Interpreter.current().executable == Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    assert Interpreter.current().library.is_relative_to(sys.base_prefix)
    assert not Interpreter.current().packages.is_relative_to(Path(sys.prefix)) or (
        sys.prefix == sys.base_prefix
    )
