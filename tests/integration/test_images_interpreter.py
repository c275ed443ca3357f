"""Images of interpreters really run, whichever Python they were made by."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.snapshots import mounted

pytestmark = pytest.mark.root

CHECK = """
import ssl, sqlite3, ctypes, sys, json, threading, socket, zoneinfo, decimal, lzma, bz2, zlib, hashlib
import pwd, locale, multiprocessing, asyncio, xml.etree.ElementTree, uuid, select, csv, _pickle
threading.Thread(target=print, args=("thread",)).start()
sqlite3.connect(":memory:").execute("select 1").fetchone()
assert ctypes.CDLL(None).getpid()
print(len(ssl.create_default_context().get_ca_certs()) > 10, pwd.getpwuid(65534).pw_name)
print(sys.prefix, sys.flags.utf8_mode or locale.getencoding())
"""
MAKE = """
import sys
from pycontainer.content import Store
from pycontainer.images import Image
with Store.open(sys.argv[1]) as store:
    image = Image.from_interpreter("python:made", ["attrs"], store=store)
    image.save(sys.argv[2])
    print(image.digest)
"""


def run_in(root: Path, image: Image, *command: str, user: int = 0) -> str:
    """Run a command in a root file system as its image says."""
    environment = dict(variable.split("=", 1) for variable in image.config.config.env)

    def enter() -> None:
        os.chroot(root)
        os.chdir("/")
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    program = next(
        f"{directory}/{command[0]}"
        for directory in environment["PATH"].split(":")
        if (root / directory[1:] / command[0]).is_symlink()
        or (root / directory[1:] / command[0]).exists()
    )
    done = subprocess.run(
        [program, *command[1:]],
        env=environment,
        preexec_fn=enter,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "mounted"
    path.mkdir()
    return path


@pytest.fixture
def standing(store: Store, tmp_path: Path, target: Path) -> Iterator[Image]:
    image = Image.from_interpreter("python:here", ["attrs"], programs=["ls"], store=store)
    snapshot = image.prepare(tmp_path / "snapshot")
    with mounted(snapshot.plan, target):
        yield image
    # Nothing was compiled, so nothing was written: a build's layers stay clean.
    assert [entry.path for entry in snapshot.changes()] == []


@pytest.mark.parametrize("user", [0, 65534])
def test_this_interpreter_runs(standing: Image, target: Path, user: int) -> None:
    lines = run_in(target, standing, "python3", "-c", CHECK, user=user).splitlines()
    assert lines[:2] == ["thread", "True nobody"]
    assert lines[2].split()[0] == sys.base_prefix


def test_its_links_shell_programs_and_packages(standing: Image, target: Path) -> None:
    version = "print('%d.%d.%d' % __import__('sys').version_info[:3])"
    expected = "{}.{}.{}\n".format(*sys.version_info)
    assert run_in(target, standing, "python", "-c", version) == expected
    script = f'env python3 -c "{version}"; ls /usr/local/bin/python'
    assert run_in(target, standing, "sh", "-c", script) == expected + "/usr/local/bin/python\n"
    code = "import attrs, sys; print(attrs.__name__, 'pycontainer' in sys.modules)"
    assert run_in(target, standing, "python3", "-c", code) == "attrs False\n"


# --- other Pythons of this machine -----------------------------------------------------------


def _packages() -> str:
    return os.pathsep.join(
        [str(Path(pycontainer.__file__).parents[1]), sysconfig.get_path("purelib")]
    )


def _other_python() -> str:
    """The system's Python, if it can import what this one has installed."""
    python = "/usr/bin/python3"
    wanted = (
        f"import sys, attrs, zstandard; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    )
    if not Path(python).exists() or os.path.samefile(python, sys.executable):
        pytest.skip("there is no other Python")
    environment = {**os.environ, "PYTHONPATH": _packages()}
    if subprocess.run([python, "-c", wanted], env=environment, capture_output=True).returncode:
        pytest.skip("the system's Python is of another version")
    return python


def _made_by(
    python: str, directory: Path, *, packages: str | None = None, user: int | None = None
) -> tuple[str, Path]:
    directory.mkdir()
    if user is not None:
        os.chown(directory, user, user)
    done = subprocess.run(
        [python, "-c", MAKE, directory / "store", directory / "saved.tar"],
        env={
            "PATH": os.defpath,
            "PYTHONPATH": packages or _packages(),
            "HOME": str(directory),
        },
        capture_output=True,
        text=True,
        timeout=120,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), directory / "saved.tar"


def test_the_systems_python_and_an_environment_of_it_give_one_image(
    store: Store, tmp_path: Path, target: Path
) -> None:
    system = _other_python()
    subprocess.run([system, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    digest, archive = _made_by(system, tmp_path / "system")
    again, _ = _made_by(str(tmp_path / "env/bin/python"), tmp_path / "again")
    assert again == digest
    (image,) = Image.load(archive, store=store)
    assert str(image.digest) == digest
    snapshot = image.prepare(tmp_path / "snapshot")
    with mounted(snapshot.plan, target):
        assert run_in(target, image, "python3", "-c", CHECK).splitlines()[1] == "True nobody"
        assert run_in(target, image, "python", "-c", "import attrs") == ""
    assert [entry.path for entry in snapshot.changes()] == []


def test_an_ordinary_user_makes_the_same_image(tmp_path: Path) -> None:
    """From copies that they may read: this checkout and its environment may be root's alone."""
    system = _other_python()
    expected, _ = _made_by(system, tmp_path / "root")
    with tempfile.TemporaryDirectory(prefix="pycontainer-ordinary-") as place:
        Path(place).chmod(0o755)
        packages, installed = Path(place, "packages"), Path(sysconfig.get_path("purelib"))
        shutil.copytree(Path(pycontainer.__file__).parent, packages / "pycontainer")
        for pattern in ("attr", "attrs", "attrs-*.dist-info", "isal", "urllib3", "zstandard"):
            for found in installed.glob(pattern):
                shutil.copytree(found, packages / found.name)
        subprocess.run(["chmod", "-R", "a+rX", packages], check=True)
        digest, _ = _made_by(system, Path(place, "home"), packages=str(packages), user=23457)
        assert digest == expected
