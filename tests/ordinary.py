"""An ordinary user of this machine, as whom tests that run as root start programs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

import pycontainer

__all__ = ["UID", "Ordinary", "ordinary_user"]

UID = 200_000 + os.getpid() % 100_000  # other sessions' tests have another user
DISTRIBUTIONS = (
    "attrs",
    "bcrypt",
    "isal",
    "prometheus-client",
    "tornado",
    "typing_extensions",
    "urllib3",
    "zstandard",
)
_TUN = Path("/dev/net/tun")
_MOUNTED = """
for pair in $MOUNTS; do /bin/mount --bind "${pair%%=*}" "${pair#*=}"; done
exec /usr/bin/setpriv --reuid="$0" --regid="$0" --clear-groups "$@"
"""


@frozen
class Ordinary:
    """Runs programs as a user without any privilege, in a home of their own."""

    python: str
    packages: Path
    home: Path

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python to its end."""
        return subprocess.run(
            [self.python, *arguments],
            user=UID,
            group=UID,
            extra_groups=[],
            cwd=self.home,
            env={**self._environment(), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def connected(
        self, *arguments: str, resolver: Path | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start Python where a user may open ``/dev/net/tun``, as is usual, in mounts of its own.

        Args:
            arguments: Python's.
            resolver: What to show as ``/etc/resolv.conf``.
            environment: Beside the usual one.
        """
        mounts = {
            _TUN: self._open_tun(),
            **({} if resolver is None else {Path("/etc/resolv.conf"): resolver}),
        }
        shown = " ".join(f"{source}={target}" for target, source in mounts.items())
        return subprocess.Popen(
            [
                "/usr/bin/unshare",
                "--mount",
                "/bin/sh",
                "-ec",
                _MOUNTED,
                str(UID),
                self.python,
                *arguments,
            ],
            cwd=self.home,
            env={"MOUNTS": shown, **self._environment(), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": os.defpath,
            "PYTHONPATH": str(self.packages),
        }

    def _open_tun(self) -> Path:
        """A device node that this user may open."""
        if not _TUN.exists():
            pytest.skip("needs /dev/net/tun (modprobe tun)")
        node = self.packages.parent / "tun"
        if not node.exists():
            os.mknod(node, stat.S_IFCHR | 0o666, _TUN.stat().st_rdev)
            node.chmod(0o666)
        return node


@contextlib.contextmanager
def ordinary_user() -> Iterator[Ordinary]:
    """Stage what the user may read: this checkout and its environment may be root's alone."""
    python = _readable_python()
    with tempfile.TemporaryDirectory(prefix="pycontainer-ordinary-") as place:
        Path(place).chmod(0o755)
        packages, home = Path(place, "packages"), Path(place, "home")
        shutil.copytree(Path(pycontainer.__file__).parent, packages / "pycontainer")
        for name in DISTRIBUTIONS:
            for file in importlib.metadata.files(name) or []:
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    target = packages / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file.locate(), target)
        home.mkdir()
        os.chown(home, UID, UID)
        yield Ordinary(python, packages, home)


def _readable_python() -> str:
    wanted = sysconfig.get_python_version()
    for python in (
        sys.executable,
        getattr(sys, "_base_executable", ""),
        f"/usr/bin/python{wanted}",
    ):
        if python and _runs(python):
            return python
    pytest.skip(f"no Python {wanted} that an ordinary user may execute")


def _runs(python: str) -> bool:
    try:
        result = subprocess.run(
            [python, "-c", "pass"], user=UID, group=UID, extra_groups=[], cwd="/", check=False
        )
    except (PermissionError, FileNotFoundError):
        return False
    return result.returncode == 0
