"""The steps of a Builder that change files: copies and commands."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

from attrs import evolve

from pycontainer.build._bound import Bound, files_to_mount
from pycontainer.build._config_steps import Command, ConfigSteps, checked_text
from pycontainer.build._copy import Copy
from pycontainer.build._git import parse_git
from pycontainer.build._glob import literal_pattern
from pycontainer.build._graph import Vertex
from pycontainer.build._ignore import IgnorePatterns
from pycontainer.build._modes import check_mode
from pycontainer.build._mounts import CacheMount
from pycontainer.build._run import Run
from pycontainer.build._sources import ImageSource, LocalSource, StoredImageSource
from pycontainer.build._url import url_source
from pycontainer.build._workdir import Workdir
from pycontainer.images import Image
from pycontainer.oci import Platform, Reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from pycontainer.build._builder import Builder
    from pycontainer.build._mounts import RunMount, SecretMount, SshMount, TmpfsMount

__all__ = ["FileSteps", "begin"]


class FileSteps(ConfigSteps):
    """Something that steps can be added to; each method gives a new one."""

    __slots__ = ()

    target: Vertex

    @property
    @abstractmethod
    def _local(self) -> LocalSource:
        """The context that copies take files from."""

    def copy(
        self,
        source: str | Sequence[str],
        destination: str,
        *,
        owner: str | int | None = None,
        mode: int | str | None = None,
        from_: Builder | Image | str | None = None,
        exclude: Sequence[str] = (),
        parents: bool = False,
        link: bool = False,
    ) -> Self:
        """Copy files into the image, with Docker's rules for ``COPY``.

        A directory's content is copied, not the directory itself. A file goes into the destination if
        that ends with ``/`` or is a directory in the image; else it gets that name. Several sources
        need a destination that ends with ``/``. Missing directories are made. Times become the
        build's epoch.

        Args:
            source: Paths relative to the context, or to the root of `from_`; names may be patterns
                (``*``, ``?``, ``[a-z]``) and must match something.
            destination: Path in the image, relative to its working directory.
            owner: ``user``, ``user:group`` or numbers; names are those of the image's own
                ``/etc/passwd`` and ``/etc/group``. None: 0:0, or, with `from_`, as they are there.
            mode: Permissions of all that is copied, or changes as ``chmod`` takes them, such as
                ``u=rwX,go=rX``; None: as they are.
            from_: Copy from this stage or image instead of from the context.
            exclude: Patterns of what is left out, as in a ``.dockerignore``, seen from each source.
            parents: Keep the directories above the sources, those behind a ``/./`` if there is one.
            link: Make a layer that does not depend on what is in the image, so that the cache has it for
                any base. Symlinks on the way to the destination are then replaced, not followed.
        """
        sources = (source,) if isinstance(source, str) else tuple(source)
        if not sources:
            raise ValueError("copy needs a source")
        IgnorePatterns(tuple(exclude))
        step = Copy(
            sources,
            checked_text(destination, "destination"),
            owner=None if owner is None else str(owner),
            mode=_mode(mode),
            origin=_label(from_),
            exclude=tuple(exclude),
            parents=parents,
            link=link,
        )
        source_vertex = Vertex(self._local) if from_ is None else begin(from_)
        return self._then(step, source_vertex)

    def add(
        self,
        source: str,
        destination: str,
        *,
        owner: str | int | None = None,
        mode: int | str | None = None,
        checksum: str = "",
        keep_git_dir: bool = False,
        unpack: bool | None = None,
    ) -> Self:
        """Add files, with Docker's rules for ``ADD``: unpack archives, fetch URLs and git repositories.

        Args:
            source: A path relative to the context, ``http(s)://…``, or a git repository such as
                ``https://host/project.git#branch:directory``.
            destination: See `copy`.
            owner: See `copy`. What is unpacked keeps its owners if None.
            mode: See `copy`; None: 0600 for a file from a URL.
            checksum: What the digest of a URL's file (``sha256:…``), or a repository's commit, has to be.
            keep_git_dir: Whether a repository's ``.git`` is kept.
            unpack: Whether an archive is unpacked; None: one of the context is, one of a URL is not.
        """
        origin, name = Vertex(self._local), source
        if (git := parse_git(source)) is not None:
            origin = Vertex(evolve(git, keep_git_dir=keep_git_dir, checksum=checksum))
            name = "."
        elif (url := url_source(source, checksum)) is not None:
            origin, name = Vertex(url), literal_pattern(url.name)
            mode = 0o600 if mode is None else mode
        elif checksum:
            raise ValueError("a checksum is of a URL or a git repository")
        step = Copy(
            (name,),
            checked_text(destination, "destination"),
            owner=None if owner is None else str(owner),
            mode=_mode(mode),
            verb="ADD",
            shown=() if name == source else (source,),
            unpack=isinstance(origin.operation, LocalSource) if unpack is None else unpack,
        )
        return self._then(step, origin)

    def run(
        self,
        command: Command,
        *,
        network: Literal["none", "host"] = "host",
        env: Mapping[str, str] | None = None,
        mounts: Sequence[CacheMount | TmpfsMount | SecretMount | SshMount | Bound] = (),
        insecure: bool = False,
    ) -> Self:
        """Execute a command in the image; what it changes becomes a layer.

        It runs as the image's user, in its working directory and environment. What it makes should
        depend on nothing else than the image: the cache goes by that.

        Args:
            command: Words to execute, or a text for the image's shell.
            network: ``host`` shares this machine's network, as builds usually need one; ``none``
                has only a loopback interface.
            env: Variables for this command alone; they are not kept in the image.
            mounts: What the command sees beside the image's files, and what no layer gets.
            insecure: Whether it has all rights that this program has; `build` must allow that.
        """
        words = command if isinstance(command, str) else tuple(command)
        if not words:
            raise ValueError("run needs a command")
        made, inputs = self._mounted(mounts)
        step = Run(
            words,
            network=network,
            env=tuple(sorted((env or {}).items())),
            mounts=made,
            insecure=insecure,
        )
        return self._then(step, *inputs)

    def _mounted(
        self, mounts: Sequence[RunMount | Bound]
    ) -> tuple[tuple[RunMount, ...], list[Vertex]]:
        """The mounts of a command, and the inputs that hold what they show."""
        inputs: list[Vertex] = []
        made: list[RunMount] = []
        for mount in mounts:
            if isinstance(mount, Bound):
                given = mount.from_
                origin = Vertex(self._local) if given is None else begin(given)
                files = files_to_mount(origin, mount.source, _label(given))
                if files not in inputs:
                    inputs.append(files)
                made.append(mount.of_input(inputs.index(files)))
            elif isinstance(mount, CacheMount):  # under the name that a Dockerfile gives it
                made.append(evolve(mount, id=mount.id or mount.target))
            else:
                made.append(mount)
        return tuple(made), inputs

    def workdir(self, path: str) -> Self:
        """Set the working directory, relative to the one before, and make it if it is missing."""
        return self._then(Workdir(checked_text(path, "directory")))


def begin(base: str | Reference | Image | Builder, platform: Platform | None = None) -> Vertex:
    """What a stage begins with, or a copy is from."""
    if isinstance(base, FileSteps):
        return base.target
    if isinstance(base, Image):
        return Vertex(StoredImageSource(base))
    reference = base if isinstance(base, Reference) else Reference.parse(base)
    return Vertex(ImageSource(reference, platform))


def _label(origin: Builder | Image | str | None) -> str:
    """What events and errors call where files are copied from; the same on every machine."""
    if origin is None:
        return ""
    if isinstance(origin, FileSteps):
        return "stage"
    if isinstance(origin, Image):
        return str(origin.digest if origin.reference is None else origin.reference.familiar)
    return Reference.parse(origin).familiar


def _mode(mode: int | str | None) -> int | str | None:
    if isinstance(mode, str):
        check_mode(mode)
        return int(mode, 8) if mode.isdecimal() else mode
    if mode is not None and not 0 <= mode <= 0o7777:
        raise ValueError(f"not a file mode: {mode:#o}")
    return mode
