from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from pycontainer._linux.path import open_in_root

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="openat2 is Linux's")

RENAME = "import itertools, os\nfor n in itertools.count(): os.rename(f'd{n % 2}', f'd{1 - n % 2}')"


@pytest.fixture
def restless(tmp_path: Path) -> Iterator[Path]:
    """A directory in which another process renames without end."""
    (tmp_path / "d0").mkdir()
    with Popen([sys.executable, "-c", RENAME], cwd=tmp_path) as process:
        yield tmp_path
        process.kill()


def test_a_path_with_dots_resolves_while_others_rename(restless: Path) -> None:
    """The kernel gives up (EAGAIN) where it cannot tell whether `..` was moved out of the root."""
    (restless / "a" / "b").mkdir(parents=True)
    root = os.open(restless, os.O_PATH)
    try:
        for _ in range(3000):
            os.close(open_in_root(root, "a/b/../../a/b/../../../../a", os.O_PATH))
    finally:
        os.close(root)
