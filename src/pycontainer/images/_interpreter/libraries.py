"""Which shared libraries a program needs, found as the dynamic loader finds them (ld.so(8))."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.errors import ImageError
from pycontainer.images._interpreter.elf import Elf, read_elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Libraries", "Library", "read_cache"]

_CACHE: Final = Path("/etc/ld.so.cache")
_CACHE_MAGIC: Final = b"glibc-ld.so.cache1.1"
_CACHE_HEADER: Final = struct.Struct("=20sII20x")
_CACHE_ENTRY: Final = struct.Struct("=iIIIQ")
_DEFAULTS: Final = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
# Opened by libc at run time: for the end of threads, for the names of users and hosts.
_IMPLIED: Final = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")


@frozen
class Library:
    """A shared library as it was found.

    Attributes:
        name: What it is needed as.
        path: Where it is.
        by_search: Whether its user or its directory alone lead there. Else this machine's cache or
            environment did, and an image needs another pointer to it.
    """

    name: str
    path: Path
    by_search: bool


@frozen
class _Object:
    """A loaded file, and who loaded it: DT_RPATH is inherited."""

    path: Path
    elf: Elf
    loader: _Object | None = field(default=None, repr=False)


def read_cache(data: bytes) -> dict[str, list[str]]:
    """Names and paths in an ``ld.so.cache``, without the variants for special processors."""
    start = data.find(_CACHE_MAGIC)
    if start < 0:
        return {}
    data = data[start:]
    _, count, _ = _CACHE_HEADER.unpack_from(data)
    found: dict[str, list[str]] = {}
    for i in range(count):
        at = _CACHE_HEADER.size + i * _CACHE_ENTRY.size
        _, key, value, _, capabilities = _CACHE_ENTRY.unpack_from(data, at)
        if capabilities == 0:
            found.setdefault(_string(data, key), []).append(_string(data, value))
    return found


class Libraries:
    """Everything that a set of programs and libraries loads, each library once.

    Args:
        cache: Names and paths as `read_cache` gives them; None for this machine's.
        environment: For ``LD_LIBRARY_PATH``; None for this process's.
    """

    def __init__(
        self,
        *,
        cache: Mapping[str, list[str]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._cache = _machine_cache() if cache is None else cache
        environment = os.environ if environment is None else environment
        searched = environment.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")
        self._environment = tuple(filter(None, searched))
        self._defaults: tuple[str, ...] = _DEFAULTS
        self._found: dict[str, Library] = {}
        self._read: set[Path] = set()
        self.loaders: set[Path] = set()

    @property
    def found(self) -> tuple[Library, ...]:
        """All libraries so far, by name."""
        return tuple(self._found[name] for name in sorted(self._found))

    def add_program(self, path: Path) -> None:
        """Add a program with all that it needs.

        Raises:
            ImageError: A library that it needs is not to be found.
        """
        elf = read_elf(path)
        if elf is None:
            return
        if elf.interpreter:
            loader = Path(elf.interpreter)
            self.loaders.add(loader)
            self._defaults = (*_directories_of(loader), *_DEFAULTS)
        missing = self._follow(_Object(path, elf))
        if missing:
            raise ImageError(f"{path} needs {', '.join(missing)}, which this machine does not have")
        for name in _IMPLIED:
            self._load(name, _Object(path, elf))

    def add_extension(self, path: Path, program: Path) -> tuple[str, ...]:
        """Add a library that `program` opens, with what it needs.

        Returns:
            Names of libraries that are not to be found: it cannot be opened on this machine either.
        """
        elf, program_elf = read_elf(path), read_elf(program)
        if elf is None or program_elf is None or elf.kind != program_elf.kind:
            return ()
        return self._follow(_Object(path, elf, _Object(program, program_elf)))

    def _follow(self, user: _Object) -> tuple[str, ...]:
        if user.path in self._read:
            return ()
        self._read.add(user.path)
        missing: list[str] = []
        for name in user.elf.needed:
            missing += self._load(name, user)
        return tuple(missing)

    def _load(self, name: str, user: _Object) -> tuple[str, ...]:
        if name in self._found or any(name == loader.name for loader in self.loaders):
            return ()
        for path, by_search in self._candidates(name, user):
            elf = _readable_elf(path)
            if elf is not None and elf.kind == user.elf.kind:
                self._found[name] = Library(name, path, by_search)
                return self._follow(_Object(path, elf, user))
        return (name,)

    def _candidates(self, name: str, user: _Object) -> Iterator[tuple[Path, bool]]:
        """Where ld.so(8) looks, in its order."""
        if "/" in name:
            yield Path(name), True
            return
        if not user.elf.runpath:
            loader: _Object | None = user
            while loader is not None:
                yield from _in(_expand(loader.elf.rpath, loader.path), name, True)
                loader = loader.loader
        yield from _in(self._environment, name, False)
        yield from _in(_expand(user.elf.runpath, user.path), name, True)
        yield from ((Path(path), False) for path in self._cache.get(name, ()))
        yield from _in(self._defaults, name, False)


def _machine_cache() -> dict[str, list[str]]:
    try:
        return read_cache(_CACHE.read_bytes())
    except (FileNotFoundError, struct.error):  # musl has none
        return {}


def _string(data: bytes, offset: int) -> str:
    return os.fsdecode(data[offset : data.index(b"\0", offset)])


def _directories_of(loader: Path) -> tuple[str, ...]:
    """Beside the loader there is libc, and where that is, is searched."""
    real = loader.resolve().parent
    return (str(loader.parent), str(real))


def _expand(directories: Iterable[str], origin: Path) -> Iterator[str]:
    for directory in directories:
        for lib in ("lib64", "lib") if "LIB" in directory else ("",):
            meant = {"ORIGIN": str(origin.parent), "LIB": lib}
            yield Template(directory).safe_substitute(meant)


def _in(directories: Iterable[str], name: str, by_search: bool) -> Iterator[tuple[Path, bool]]:
    for directory in directories:
        yield Path(directory) / name, by_search


def _readable_elf(path: Path) -> Elf | None:
    try:
        return read_elf(path)
    except OSError:
        return None
