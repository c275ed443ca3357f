"""The code on the pages runs as it stands there.

All ``python`` blocks of a page make one program, run from an empty directory with an empty store. A
block that begins with a comment naming a file, such as ``# test_orders.py``, is written to that
file instead; if any of these holds tests, pytest runs them. Blocks below the line ``<!-- as root -->``
are left out for ordinary users. Examples run as they are.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from own_network import own_network

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
AS_ROOT = "<!-- as root -->\n\n"


def program_and_files(page: str) -> tuple[str, dict[str, str]]:
    """Return a page's program, its lines where they are on the page, and the files it shows."""
    program = [""] * page.count("\n")
    files: dict[str, str] = {}
    for block in BLOCK.finditer(page):
        if os.geteuid() != 0 and page[: block.start()].endswith(AS_ROOT):
            continue
        code = block[1]
        if name := FILE.match(code):
            files[name[1]] = code
        else:
            first = page.count("\n", 0, block.start(1))
            program[first : first + code.count("\n")] = code.splitlines()
    return "\n".join(program), files


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """Where pages leave what they make of temporary directories; short, as sockets' paths must be."""
    with tempfile.TemporaryDirectory(prefix="pages-") as directory:
        yield Path(directory)


def run(directory: Path, temporary: Path, *arguments: str) -> None:
    places = {"PYCONTAINER_HOME": str(directory / "home"), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        env=os.environ | places,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(autouse=True, scope="module")
def network() -> Iterator[None]:
    """What the pages' networks need of the machine is switched on where nobody else is."""
    with own_network() if os.geteuid() == 0 else contextlib.nullcontext():
        yield


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=str(page.relative_to(ROOT)))
        for page in PAGES
        if BLOCK.search(page.read_text())
    ],
)
def test_code_on_the_page_runs(page: Path, tmp_path: Path, temporary: Path) -> None:
    program, files = program_and_files(page.read_text())
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    if program.strip():
        (tmp_path / page.with_suffix(".py").name).write_text(program)
        run(tmp_path, temporary, page.with_suffix(".py").name)
    if any(name.startswith("test_") for name in files):
        run(tmp_path, temporary, "-m", "pytest", "-q", "-p", "no:cacheprovider", ".")


@pytest.mark.parametrize("example", [pytest.param(path, id=path.name) for path in EXAMPLES])
def test_example_runs(example: Path, tmp_path: Path, temporary: Path) -> None:
    how = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if "pytest" in example.name else []
    run(tmp_path, temporary, *how, str(example))
