"""A Debian root file system made by mmdebstrap, once for each machine."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from interop.peers import run

_SUITE = "bookworm"


@pytest.fixture(scope="session")
def debian_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar of a minimal Debian: about 170 MB and 9,000 files.

    It is kept in ``$PYCONTAINER_TEST_CACHE``, else in the directory that this session's workers share.
    """
    return _bootstrapped(tmp_path_factory, f"debian-{_SUITE}-minbase")


@pytest.fixture(scope="session")
def debian_with_systemd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar of a Debian that boots; kept like that of `debian_tar`."""
    name = f"debian-{_SUITE}-systemd"
    return _bootstrapped(tmp_path_factory, name, "--include=systemd-sysv")


def _bootstrapped(tmp_path_factory: pytest.TempPathFactory, name: str, *options: str) -> Path:
    given = os.environ.get("PYCONTAINER_TEST_CACHE")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    cache = Path(given) if given else shared
    cache.mkdir(parents=True, exist_ok=True)
    tar = cache / f"{name}.tar"
    with (cache / f".{tar.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tar.exists():
            partial = tar.with_suffix(".partial.tar")
            run(
                "mmdebstrap",
                "--variant=minbase",
                "--quiet",
                *options,
                _SUITE,
                partial,
                env={"TMPDIR": str(base)},
            )
            partial.rename(tar)
    return tar
