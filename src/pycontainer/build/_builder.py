"""Images as Python code: each method returns a Builder with one more step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from attrs import evolve, field, frozen

from pycontainer.build._bound import Bound, files_to_mount
from pycontainer.build._build import BuildOptions, build
from pycontainer.build._config_steps import Command, ConfigSteps, checked_text, pairs
from pycontainer.build._configure import SetCmd
from pycontainer.build._copy import Copy
from pycontainer.build._git import parse_git
from pycontainer.build._given import Given, Secret, secrets_of, sockets_of
from pycontainer.build._glob import literal_pattern
from pycontainer.build._graph import Step, Vertex
from pycontainer.build._ignore import IgnorePatterns
from pycontainer.build._modes import check_mode
from pycontainer.build._mounts import CacheMount
from pycontainer.build._platforms import Attestations, build_index
from pycontainer.build._run import Run
from pycontainer.build._sources import ImageSource, LocalSource, ScratchSource, StoredImageSource
from pycontainer.build._url import url_source
from pycontainer.build._workdir import Workdir
from pycontainer.build.dockerfile import check
from pycontainer.build.dockerfile._ignore_file import read_ignore
from pycontainer.build.dockerfile._scope import PROXIES
from pycontainer.content import Store
from pycontainer.images import Image, ImageIndex
from pycontainer.oci import Platform, Reference

if TYPE_CHECKING:
    import os

    from pycontainer.build._cache_places import CachePlace, InlineCache
    from pycontainer.build._events import Progress
    from pycontainer.build._mounts import RunMount, SecretMount, SshMount, TmpfsMount
    from pycontainer.build._outputs import Output
    from pycontainer.build.dockerfile import BuildWarning, Dockerfile, PrintedDockerfile

__all__ = ["Builder"]

T = TypeVar("T")


@frozen(init=False, repr=False)
class Builder(ConfigSteps):
    """A stage of a build: an image to begin with, and steps.

    A Builder is a value. Each method returns a new one and leaves the old one as it is, so a stage can be
    continued in several ways, and another stage can copy from it. Nothing is done until `build`.

    Args:
        base: Where to begin: an image's name, an image, or another stage.
        platform: For which platform to pull the image; None for this machine's.
        context: The directory that `copy` takes files from; None for the one that `build` is given.

    Example:
        >>> app = Builder("python:3.12").copy("src", "/app").run(["pip", "install", "/app"])
        >>> image = app.entrypoint(["python", "-m", "app"]).build("app:1")  # doctest: +SKIP
    """

    target: Vertex
    """What the stage gives so far: a vertex of the build graph."""
    _first: Vertex
    _context: Path | None
    _given: Given = field(factory=Given, eq=False)

    def __init__(
        self,
        base: str | Reference | Image | Builder,
        *,
        platform: str | Platform | None = None,
        context: str | os.PathLike[str] | None = None,
    ) -> None:
        first = _begin(base, platform)
        self.__attrs_init__(first, first, _path(context))
        if isinstance(base, Builder):
            object.__setattr__(self, "_given", base._given)  # noqa: SLF001  (of its own kind)

    @classmethod
    def scratch(
        cls,
        *,
        platform: str | Platform | None = None,
        context: str | os.PathLike[str] | None = None,
    ) -> Builder:
        """Begin with no files at all.

        Args:
            platform: What the image is for; None for this machine.
            context: See `Builder`.
        """
        first = Vertex(ScratchSource(_platform(platform)))
        builder = cls.__new__(cls)
        builder.__attrs_init__(first, first, _path(context))
        return builder

    @classmethod
    def from_dockerfile(
        cls,
        dockerfile: str | os.PathLike[str] | Dockerfile | None = None,
        *,
        context: str | os.PathLike[str] = ".",
        target: str | None = None,
        args: Mapping[str, str] | None = None,
        secrets: Mapping[str, Secret] | None = None,
        ssh: Mapping[str, str | os.PathLike[str]] | None = None,
        contexts: Mapping[str, str | os.PathLike[str] | Image | Builder] | None = None,
        platform: str | Platform | None = None,
        insecure: bool = False,
        store: Store | None = None,
    ) -> Builder:
        """The wanted stage of a Dockerfile, to be built or gone on from.

        Base images of the stages that are needed are pulled now if the store has none, because their
        environments decide what instructions mean. All else happens in `build`.

        What ``<Dockerfile>.dockerignore``, or else ``.dockerignore`` in the context, names is left out
        of the context.

        Args:
            dockerfile: The file, or the Dockerfile itself; None for ``Dockerfile`` in the context.
            context: The directory that COPY and ADD take files from.
            target: Name or number of the wanted stage; None for the last.
            args: Build arguments. Those for proxies (``HTTP_PROXY`` and the like) need no ARG, and
                neither the image nor the cache depends on them.
            secrets: What ``RUN --mount=type=secret`` shows, by id: bytes, a text, or a file's path.
                Secrets get into no layer, cache key, history or event.
            ssh: Sockets of SSH agents for ``RUN --mount=type=ssh``, by id: most often
                ``{"default": os.environ["SSH_AUTH_SOCK"]}``.
            contexts: Further contexts that FROM and ``--from`` can name: directories, images, stages,
                or names of images as ``docker-image://name``. They go before stages and images of the
                same name.
            platform: For which platform to build; None for this machine's.
            insecure: Whether ``RUN --security=insecure`` is allowed.
            store: Where base images are, or are pulled to, and where `build` builds; None for the
                default store.

        Raises:
            DockerfileError: The file cannot be read or means nothing; the error shows the line.
            BuildError: The context cannot be read.
            RegistryError: A base image cannot be pulled.
        """
        from pycontainer.build.dockerfile._frontend import read_request
        from pycontainer.build.dockerfile._lowering import lower

        store = store or Store.default()
        request = read_request(
            dockerfile,
            context=Path(context).absolute(),
            target=target,
            args=args or {},
            contexts={name: _named(value) for name, value in (contexts or {}).items()},
            platform=_platform(platform) or Platform.current(),
            store=store,
        )
        lowered = lower(request)
        given = Given(
            store=store,
            secrets=secrets_of(secrets),
            ssh=sockets_of(ssh),
            proxies={name: value for name, value in request.args.items() if name in PROXIES},
            insecure=insecure,
            dockerfile=request.dockerfile,
            ignore=request.ignore,
            platform=request.platform,
        )
        builder = cls.__new__(cls)
        builder.__attrs_init__(lowered.target, lowered.first, request.context, given)
        return builder

    def check(self) -> tuple[BuildWarning, ...]:
        """What in the Dockerfile is allowed and yet most often a mistake; nothing is built.

        The checks are those of ``docker build --check``. Where no Dockerfile was read there is nothing to
        find. To check a file without pulling its base images: `pycontainer.build.dockerfile.check`.
        """
        if self._given.dockerfile is None:
            return ()
        return check(self._given.dockerfile, ignore=self._given.ignore)

    def to_dockerfile(self) -> PrintedDockerfile:
        """Write the stage, and all that it needs, as a Dockerfile that builds the same image.

        What the steps are is written, not how they came about: of a Builder from a Dockerfile for one
        platform and with certain arguments, what they amount to. Secrets and agents are not in it, only
        their ids. The store is looked at for base images, nothing is pulled or built; of an image that it
        does not have, no variables, shell or ONBUILD are known.

        Returns:
            The text, and the contexts that it has to be built with: images without a name, and other
            directories than the context.

        Raises:
            BuildError: A step cannot be written; the error names it.
        """
        from pycontainer.build.dockerfile._printing import print_graph

        return print_graph(
            self.target,
            context=self._local,
            platform=self._given.platform,
            store=self._store,
        )

    @property
    def _local(self) -> LocalSource:
        """The context that copies take files from."""
        return LocalSource(self._context, self._given.ignore)

    def _then(self, step: Step, *others: Vertex) -> Builder:
        builder = type(self).__new__(type(self))
        target = Vertex(step, (self.target, *others))
        builder.__attrs_init__(target, self._first, self._context, self._given)
        return builder

    # --- files -------------------------------------------------------------------------------

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
    ) -> Builder:
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
        source_vertex = Vertex(self._local) if from_ is None else _begin(from_, None)
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
    ) -> Builder:
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
    ) -> Builder:
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
        inputs: list[Vertex] = []
        made: list[RunMount] = []
        for mount in mounts:
            if isinstance(mount, Bound):
                given = mount.from_
                origin = Vertex(self._local) if given is None else _begin(given, None)
                inputs.append(files_to_mount(origin, mount.source, _label(given)))
                made.append(mount.of_input(len(inputs) - 1))
            elif isinstance(mount, CacheMount):  # under the name that a Dockerfile gives it
                made.append(evolve(mount, id=mount.id or mount.target))
            else:
                made.append(mount)
        step = Run(
            words,
            network=network,
            env=pairs(dict(sorted((env or {}).items()))),
            mounts=tuple(made),
            insecure=insecure,
        )
        return self._then(step, *inputs)

    def workdir(self, path: str) -> Builder:
        """Set the working directory, relative to the one before, and make it if it is missing."""
        return self._then(Workdir(checked_text(path, "directory")))

    def _has_cmd(self) -> bool:
        """Whether this stage itself has set a default command."""
        vertex = self.target
        while vertex is not self._first:
            if isinstance(vertex.operation, SetCmd):
                return True
            vertex = vertex.inputs[0]
        return False

    # --- building ----------------------------------------------------------------------------

    def build(
        self,
        tag: str | Reference | None = None,
        *,
        context: str | os.PathLike[str] = ".",
        store: Store | None = None,
        use_cache: bool = True,
        cache_from: CachePlace | Sequence[CachePlace] = (),
        cache_to: CachePlace | InlineCache | Sequence[CachePlace | InlineCache] = (),
        outputs: Output | Sequence[Output] = (),
        push: bool = False,
        compression: Literal["gzip", "zstd", "none"] = "gzip",
        level: int | None = None,
        squash: bool = False,
        source_date_epoch: int | None = None,
        secrets: Mapping[str, Secret] | None = None,
        ssh: Mapping[str, str | os.PathLike[str]] | None = None,
        insecure: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Image:
        """Build the image.

        The same steps on the same files give the same digest, on any day and in any directory.
        Independent stages are built at the same time; steps whose inputs are as in an earlier build
        are taken from the cache.

        Args:
            tag: A name for the image.
            context: The directory that `copy` takes files from.
            store: Where to build; None for the store of the image that the stage begins with, if it
                begins with one at hand, else the default store.
            use_cache: Whether steps may be taken from a cache.
            cache_from: Caches elsewhere that steps may be taken from, too. One that is not there or
                damaged is passed over with a warning in the log.
            cache_to: Where to put what this build knows by now: other machines' `cache_from`.
            outputs: Files and directories that the image, or its files, are written to as well.
            push: Whether to send it, once built, to the registry that `tag` names.
            compression: Of new layers.
            level: For gzip 1 to 3 (1), for zstd 1 to 22 (3).
            squash: Put all that was added to the base image into one layer.
            source_date_epoch: The image's time, seconds since 1970; None for the environment's
                ``SOURCE_DATE_EPOCH``, else 0.
            secrets: What steps with `secret` mounts are shown, by id; beside those that the Builder
                has from a Dockerfile.
            ssh: Sockets of SSH agents, by id; likewise.
            insecure: Whether commands may ask for all rights.
            progress: Called with each event, by one thread at a time.
            timeout: Seconds for the whole build.

        Raises:
            BuildError: A step cannot be done, `BuildStepFailed` where a command failed; or a cache or
                output cannot be written.
            TimeoutExpired: The build took too long.
            RegistryError: The base image cannot be pulled, or the registry takes no image or cache.
        """
        if push and tag is None:
            raise ValueError("an image without a tag cannot be pushed")
        options = BuildOptions(
            context=context,
            use_cache=use_cache,
            cache_from=_all(cache_from),
            cache_to=_all(cache_to),
            compression=compression,
            level=level,
            squash=squash,
            source_date_epoch=source_date_epoch,
            progress=progress,
            timeout=timeout,
            secrets={**self._given.secrets, **secrets_of(secrets)},
            ssh={**self._given.ssh, **sockets_of(ssh)},
            proxies=self._given.proxies,
            insecure=insecure or self._given.insecure,
        )
        return build(
            self.target,
            store or self._store(),
            options,
            tag=tag,
            outputs=_all(outputs),
            push=push,
        )

    def build_index(
        self,
        tag: str | Reference | None = None,
        *,
        platforms: Sequence[str | Platform] = (),
        sbom: bool = False,
        provenance: bool = False,
        context: str | os.PathLike[str] = ".",
        store: Store | None = None,
        use_cache: bool = True,
        cache_from: CachePlace | Sequence[CachePlace] = (),
        cache_to: CachePlace | InlineCache | Sequence[CachePlace | InlineCache] = (),
        outputs: Output | Sequence[Output] = (),
        push: bool = False,
        compression: Literal["gzip", "zstd", "none"] = "gzip",
        level: int | None = None,
        squash: bool = False,
        source_date_epoch: int | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> ImageIndex:
        """Build the image for several platforms, or with attestations: an index of images.

        Stages without a platform of their own are built for each platform, all at the same time.
        Commands of other processors' images run if the kernel knows an interpreter for their programs
        (binfmt_misc). The further arguments are those of `build`.

        Args:
            tag: A name for the index, and in the store for this machine's image.
            platforms: What to build for, such as ``["linux/amd64", "linux/arm64"]``; none for this
                machine's alone.
            sbom: Attach to each image an SPDX document of the packages in it: those of dpkg, apk and
                Python.
            provenance: Attach to each image what it was made from, and how (SLSA).
            context: See `build`.
            store: See `build`.
            use_cache: See `build`.
            cache_from: See `build`.
            cache_to: See `build`.
            outputs: See `build`; only an OCI archive or layout holds an index.
            push: See `build`.
            compression: See `build`.
            level: See `build`.
            squash: See `build`.
            source_date_epoch: See `build`.
            progress: See `build`; titles begin with the platform.
            timeout: See `build`.

        Raises:
            BuildError: As `build`; or a command is for another processor and cannot run here.
            PlatformNotFound: A base image is not there for a platform.
            TimeoutExpired: The build took too long.
            RegistryError: As `build`.
        """
        if push and tag is None:
            raise ValueError("an index without a tag cannot be pushed")
        named = [each for each in map(_platform, platforms) if each is not None]
        wanted = named or [self._given.platform or Platform.current()]
        self._given.refuse_other_platforms(wanted)
        options = BuildOptions(
            context=context,
            use_cache=use_cache,
            cache_from=_all(cache_from),
            cache_to=_all(cache_to),
            compression=compression,
            level=level,
            squash=squash,
            source_date_epoch=source_date_epoch,
            progress=progress,
            timeout=timeout,
            secrets=self._given.secrets,
            ssh=self._given.ssh,
            proxies=self._given.proxies,
            insecure=self._given.insecure,
        )
        return build_index(
            self.target,
            store or self._store(),
            options,
            list(dict.fromkeys(wanted)),
            reference=Reference.parse(tag) if isinstance(tag, str) else tag,
            attestations=Attestations(sbom=sbom, provenance=provenance),
            outputs=_all(outputs),
            push=push,
        )

    def _store(self) -> Store:
        if self._given.store is not None:
            return self._given.store
        vertex = self.target
        while vertex.inputs:
            vertex = vertex.inputs[0]
        source = vertex.operation
        return source.image.store if isinstance(source, StoredImageSource) else Store.default()

    def __repr__(self) -> str:
        return f"<Builder {self.target.title!r}>"


def _all(given: T | Sequence[T]) -> tuple[T, ...]:
    """One value, or several."""
    return tuple(given) if isinstance(given, Sequence) else (given,)


def _begin(base: str | Reference | Image | Builder, platform: str | Platform | None) -> Vertex:
    if isinstance(base, Builder):
        return base.target
    if isinstance(base, Image):
        return Vertex(StoredImageSource(base))
    reference = base if isinstance(base, Reference) else Reference.parse(base)
    return Vertex(ImageSource(reference, _platform(platform)))


def _label(origin: Builder | Image | str | None) -> str:
    """What a history entry says of where files were copied from; the same on every machine."""
    if origin is None:
        return ""
    if isinstance(origin, Builder):
        return "stage"
    if isinstance(origin, Image):
        return str(origin.digest if origin.reference is None else origin.reference.familiar)
    return Reference.parse(origin).familiar


def _platform(platform: str | Platform | None) -> Platform | None:
    return Platform.parse(platform) if isinstance(platform, str) else platform


def _path(context: str | os.PathLike[str] | None) -> Path | None:
    return None if context is None else Path(context).absolute()


def _named(context: str | os.PathLike[str] | Image | Builder) -> Vertex | Image | str:
    """A named context as the frontend takes it."""
    if isinstance(context, Builder):
        return context.target
    if isinstance(context, Image) or str(context).startswith("docker-image://"):
        return context if isinstance(context, Image) else str(context)
    path = Path(context)
    return Vertex(LocalSource(path.absolute(), read_ignore(path)))


def _mode(mode: int | str | None) -> int | str | None:
    if isinstance(mode, str):
        check_mode(mode)
        return int(mode, 8) if mode.isdecimal() else mode
    if mode is not None and not 0 <= mode <= 0o7777:
        raise ValueError(f"not a file mode: {mode:#o}")
    return mode
