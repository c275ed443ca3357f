"""Installed distributions and what they require, as files to be copied."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["InstalledFile", "console_scripts", "files_of", "with_requirements"]

_REQUIREMENT: Final = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[(?P<extras>[^\]]*)\])?(?P<rest>.*)", re.DOTALL
)
_EXTRA: Final = re.compile(r"""extra\s*==\s*['"](?P<name>[^'"]+)['"]""")
_LEFT_OUT: Final = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")


@frozen
class InstalledFile:
    """A file of a distribution: where it is, and its path below a directory of modules."""

    source: Path
    path: str


def with_requirements(names: Iterable[str]) -> list[metadata.Distribution]:
    """Distributions by name with all that they require, in the order of their names.

    A requirement under a condition (a platform, a version, an extra that was asked for) is taken if
    it is installed: whoever installed them has weighed those conditions.

    Args:
        names: Such as ``attrs`` or ``uvicorn[standard]``.

    Raises:
        ImageError: One is not installed here.
    """
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(name, "packages") for name in names]
    while todo:
        text, asker = todo.pop()
        matched = _REQUIREMENT.match(text)
        if matched is None:
            raise ImageError(f"{asker}: not the name of a distribution: {text!r}")
        key = _normal(matched["name"])
        extras = [_normal(extra) for extra in (matched["extras"] or "").split(",") if extra.strip()]
        distribution = _find(key)
        if distribution is None:
            if ";" in matched["rest"]:
                continue
            raise ImageError(
                f"{asker} wants the distribution {matched['name']!r}, which is not installed here",
                remedy=f"pip install {matched['name']}",
            )
        found[key] = distribution
        for extra in ["", *extras]:
            if (key, extra) not in seen:
                seen.add((key, extra))
                todo += [(wanted, key) for wanted in _requires(distribution, extra)]
    return [found[key] for key in sorted(found)]


def files_of(distribution: metadata.Distribution) -> Iterator[InstalledFile]:
    """The modules, data and metadata of a distribution that lie below its directory of modules.

    Raises:
        ImageError: It does not say which files it has.
    """
    name = distribution.metadata["Name"]
    files = distribution.files
    if files is None:
        yield from _files_of_unrecorded(distribution)
        return
    for file in sorted(files):
        source = Path(str(distribution.locate_file(file)))
        if ".." in file.parts or file.suffix == ".pyc" or file.is_absolute():
            continue  # scripts, manuals, caches
        if file.suffix == ".pth" and _is_editable(distribution):
            yield from _files_of_editable(source)
        elif file.name not in _LEFT_OUT or not file.parts[0].endswith(".dist-info"):
            if not source.exists():
                raise ImageError(
                    f"{name} lists {source}, which is not there", remedy=f"reinstall {name}"
                )
            yield InstalledFile(source, str(file))


def console_scripts(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a distribution's commands, for the interpreter on the path."""
    for entry in sorted(distribution.entry_points, key=lambda entry: entry.name):
        if entry.group == "console_scripts":
            module, _, attribute = entry.value.partition(":")
            call = attribute.partition("[")[0].strip()
            text = (
                "#!/usr/local/bin/python3\nimport sys\n"
                f"from {module.strip()} import {call.partition('.')[0]}\n"
                f"sys.exit({call}())\n"
            )
            yield entry.name, text.encode()


def _normal(name: str) -> str:
    """One spelling for all of a name's (packaging.python.org, name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _find(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _requires(distribution: metadata.Distribution, extra: str) -> Iterator[str]:
    for text in distribution.requires or ():
        wanted = {_normal(name) for name in _EXTRA.findall(text)}
        if wanted == ({extra} if extra else set()):
            yield text


def _is_editable(distribution: metadata.Distribution) -> bool:
    text = distribution.read_text("direct_url.json")
    return bool(text) and bool(json.loads(text or "{}").get("dir_info", {}).get("editable"))


def _files_of_editable(pth: Path) -> Iterator[InstalledFile]:
    """What an editable installation points to: the modules in the directories that its file names."""
    for line in pth.read_text().splitlines():
        directory = Path(line)
        if line.startswith("import") or not directory.is_absolute():
            raise ImageError(
                f"{pth} finds an editable installation by code, which cannot be copied",
                remedy="install the distribution without --editable",
            )
        for child in sorted(directory.iterdir()):
            if child.suffix == ".py" and child.is_file():
                yield InstalledFile(child, child.name)
            elif child.is_dir() and (child / "__init__.py").exists():
                yield from _below(child, directory)


def _files_of_unrecorded(distribution: metadata.Distribution) -> Iterator[InstalledFile]:
    """What a distribution without a list of files (Debian's are so) has by its names of modules."""
    modules = (distribution.read_text("top_level.txt") or "").split()
    base = Path(str(distribution.locate_file("")))
    if not modules:
        raise ImageError(
            f"{distribution.metadata['Name']} does not say which files it has",
            remedy="install it with pip in a virtual environment",
        )
    for module in sorted(modules):
        if (base / module).is_dir():
            yield from _below(base / module, base)
        for file in sorted(base.glob(f"{module}.*")):
            if file.suffix in (".py", ".so"):
                yield InstalledFile(file, file.name)


def _below(directory: Path, base: Path) -> Iterator[InstalledFile]:
    for file in sorted(directory.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
            yield InstalledFile(file, str(file.relative_to(base)))
