"""The running Python as files: program, standard library, shared libraries, certificates."""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.errors import ImageError
from pycontainer.images._interpreter import distributions, system
from pycontainer.images._interpreter.bytecode import cache_path, compile_sources
from pycontainer.images._interpreter.libraries import Libraries
from pycontainer.images._interpreter.tree import FileTree
from pycontainer.oci import ContainerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.metadata import Distribution

    from pycontainer.layers import Entry

__all__ = ["Copy", "Interpreter", "container_config", "gather"]

_log = logging.getLogger("pycontainer.images")
# Wherever they are: tests, tools that need a screen, what only a compiler wants.
_SKIPPED_DIRECTORIES: Final = frozenset(
    {"__pycache__", "idlelib", "test", "tests", "tkinter", "turtledemo"}
)
_SKIPPED_AT_TOP: Final = frozenset(
    {"EXTERNALLY-MANAGED", "dist-packages", "site-packages", "turtle.py"}
)
_SKIPPED_SUFFIXES: Final = (".a", ".exe", ".pyc")
_SKIPPED_EXTENSIONS: Final = ("_ctypes_test", "_test", "_tkinter", "_xxtestfuzz", "xxlimited")
_PROGRAMS: Final = ("/bin/sh", "/usr/bin/env")  # of shell commands and of scripts' first lines
_FORMAT: Final = 1  # counts up when the same files shall give another image
_MTIME: Final = 0
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@frozen
class Interpreter:
    """Where a Python installation has its parts.

    Attributes:
        executable: The program, without symlinks.
        library: The standard library.
        extensions: The directory whose ``lib-dynload`` holds the extension modules.
        packages: Where it looks for distributions.
    """

    executable: Path
    library: Path
    extensions: Path
    packages: Path

    @classmethod
    def current(cls) -> Interpreter:
        """The interpreter that runs this; in a virtual environment the one below it.

        Raises:
            ImageError: This program is frozen, or embeds Python: there is no interpreter to copy.
        """
        executable = getattr(sys, "_base_executable", None) or sys.executable
        library = Path(sysconfig.get_path("stdlib"))
        if not executable or not (library / "os.py").is_file():
            raise ImageError(
                f"no Python installation to copy: executable {executable or 'unknown'}, "
                f"standard library {library}",
                remedy="run from an ordinary Python, not from a frozen or embedding program",
            )
        # The base installation's, which sysconfig would not give inside an environment.
        scheme = "deb_system" if "deb_system" in sysconfig.get_scheme_names() else "posix_prefix"
        base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
        return cls(
            Path(executable).resolve(),
            library,
            Path(sysconfig.get_path("platstdlib", scheme, vars=base)),
            Path(sysconfig.get_path("purelib", scheme, vars=base)),
        )


def container_config(interpreter: Interpreter) -> ContainerConfig:
    """What containers do unless told otherwise: an interactive Python."""
    own = str(interpreter.executable.parent)
    path = _PATH if own in _PATH.split(":") else f"{own}:{_PATH}"
    return ContainerConfig(env=(f"PATH={path}", "LANG=C.UTF-8"), cmd=("python3",))


@frozen
class Copy:
    """What an image of an interpreter will hold.

    Attributes:
        interpreter: Which one.
        tree: The files, but for compiled modules.
        modules: Sources, and the paths that they will have.
    """

    interpreter: Interpreter
    tree: FileTree
    modules: tuple[tuple[Path, str], ...]

    def fingerprint(self) -> str:
        """The same text as long as nothing has changed that `entries` depends on."""
        version = f"{_FORMAT} {sys.implementation.cache_tag} {MAGIC_NUMBER.hex()} "
        return version + self.tree.fingerprint()

    def entries(self) -> Iterator[Entry]:
        """All files as entries of a layer, compiled modules among them.

        A container then neither compiles nor writes them.

        Raises:
            ImageError: The interpreter cannot compile.
        """
        compiled = compile_sources(self.interpreter.executable, self.modules, mtime=_MTIME)
        for (_, path), data in zip(self.modules, compiled, strict=True):
            if data:
                self.tree.add_file(cache_path(path), data)
        return self.tree.entries(mtime=_MTIME)


def gather(interpreter: Interpreter, packages: Sequence[str], programs: Sequence[str]) -> Copy:
    """Find out all that belongs into an image; nothing is read but what tells what else is needed.

    Raises:
        ImageError: Something needed is missing.
        OSError: Something needed cannot be read.
    """
    return _Gathering(interpreter).run(packages, programs)


class _Gathering:
    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._tree = FileTree()
        self._libraries = Libraries()
        self._modules: list[tuple[Path, str]] = []
        self._extensions: list[Path] = []

    def run(self, packages: Sequence[str], programs: Sequence[str]) -> Copy:
        self._add_executable()
        self._add_standard_library()
        for distribution in distributions.with_requirements(packages):
            self._add_distribution(distribution)
        self._add_programs(programs)
        self._add_libraries()
        system.add_skeleton(self._tree)
        system.add_certificates(self._tree)
        system.add_locale(self._tree)
        self._tree.add_directory(str(self._interpreter.packages))
        return Copy(self._interpreter, self._tree, tuple(self._modules))

    def _add_executable(self) -> None:
        executable = self._interpreter.executable
        self._tree.add_host_file(executable)
        self._libraries.add_program(executable)
        for name in ("python3", "python"):
            for directory in (str(executable.parent), "/usr/local/bin"):
                path = f"{directory}/{name}"
                if path not in self._tree:
                    self._tree.add_link(path, str(executable))

    def _add_standard_library(self) -> None:
        library, extensions = self._interpreter.library, self._interpreter.extensions
        for file in _files_below(library):
            self._add_module_file(file, None)
        if not extensions.samefile(library):
            for file in _files_below(extensions / "lib-dynload"):
                self._add_module_file(file, None)
        archive = library.parent / f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
        if archive.is_file():
            self._tree.add_host_file(archive)

    def _add_module_file(self, file: Path, path: str | None) -> None:
        """Put in a file of a library, at its own place or at `path`."""
        if path is None:
            path = str(file)
            self._tree.add_host_file(file)
        else:
            self._tree.add_file(path, file, 0o755 if os.access(file, os.X_OK) else 0o644)
        if path.endswith(".py"):
            self._modules.append((file, path))
        elif path.endswith(".so") or ".so." in path:
            self._extensions.append(file)

    def _add_distribution(self, distribution: Distribution) -> None:
        for file in distributions.files_of(distribution):
            self._add_module_file(file.source, f"{self._interpreter.packages}/{file.path}")
        for name, text in distributions.console_scripts(distribution):
            self._tree.add_file(f"/usr/local/bin/{name}", text, 0o755)

    def _add_programs(self, programs: Sequence[str]) -> None:
        found = [path for path in _PROGRAMS if Path(path).exists()]
        for name in programs:
            path = which(name)
            if path is None:
                raise ImageError(f"no program {name!r} on this machine's path")
            found.append(os.path.abspath(path))
        for path in found:
            self._tree.add_host_file(Path(path))
            self._libraries.add_program(Path(path).resolve())

    def _add_libraries(self) -> None:
        for file in self._extensions:
            missing = self._libraries.add_extension(file, self._interpreter.executable)
            if missing:
                _log.debug("%s needs %s, not on this machine", file, ", ".join(missing))
        for loader in sorted(self._libraries.loaders):
            self._tree.add_host_file(loader)
        found = self._libraries.found
        standard = next((lib.path.parent for lib in found if lib.name.startswith("libc.")), None)
        for library in found:
            real = self._tree.add_host_file(library.path)
            if library.by_search or standard is None:
                continue
            pointer = f"{standard}/{library.name}"
            if pointer not in self._tree:
                self._tree.add_link(pointer, real)


def _files_below(top: Path) -> Iterator[Path]:
    """The files of a standard library that an image needs, in a fixed order."""
    for directory, names, files in os.walk(top, onerror=_raise):
        at_top = Path(directory) == top
        names[:] = sorted(
            name
            for name in names
            if name not in _SKIPPED_DIRECTORIES
            and not (at_top and (name in _SKIPPED_AT_TOP or name.startswith("config-")))
        )
        for name in sorted(files):
            if at_top and name in _SKIPPED_AT_TOP:
                continue
            if name.endswith(_SKIPPED_SUFFIXES) or name.startswith(_SKIPPED_EXTENSIONS):
                continue
            path = Path(directory, name)
            if path.is_file():  # not a dangling symlink
                yield path


def _raise(error: OSError) -> None:
    raise error
