"""Images as Python code: each method returns a Builder with one more step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from attrs import evolve, field, frozen

from pycontainer.build._build import BuildOptions, build
from pycontainer.build._configure import SetCmd
from pycontainer.build._file_steps import FileSteps, begin
from pycontainer.build._given import Given, Secret, SshPlace, agents_of, secrets_of
from pycontainer.build._graph import Step, Vertex
from pycontainer.build._platforms import Attestations, build_index
from pycontainer.build._sources import LocalSource, ScratchSource, StoredImageSource
from pycontainer.build.dockerfile import check
from pycontainer.content import Store
from pycontainer.oci import Platform, Reference

if TYPE_CHECKING:
    import os

    from pycontainer.build._cache_places import CachePlace, InlineCache
    from pycontainer.build._events import Progress
    from pycontainer.build._outputs import Output
    from pycontainer.build.dockerfile import BuildWarning, Dockerfile, PrintedDockerfile
    from pycontainer.images import Image, ImageIndex

__all__ = ["Builder"]

T = TypeVar("T")


@frozen(init=False, repr=False)
class Builder(FileSteps):
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
        first = begin(base, _platform(platform))
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
        ssh: Mapping[str, SshPlace] | None = None,
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
            ssh: What ``RUN --mount=type=ssh`` shows, by id: the socket of an SSH agent, most often
                ``{"default": os.environ["SSH_AUTH_SOCK"]}``, or one or several files of private keys,
                which OpenSSH's agent then holds while the command runs.
            contexts: Further contexts that FROM and ``--from`` can name: directories, images, stages,
                names of images as ``docker-image://name``, or git repositories as `add` takes them. They
                go before stages and images of the same name.
            platform: For which platform to build; None for this machine's.
            insecure: Whether ``RUN --security=insecure`` is allowed.
            store: Where base images are, or are pulled to, and where `build` builds; None for the
                default store.

        Raises:
            DockerfileError: The file cannot be read or means nothing; the error shows the line.
            BuildError: The context cannot be read.
            RegistryError: A base image cannot be pulled.
        """
        from pycontainer.build._from_dockerfile import read_dockerfile

        lowered, given = read_dockerfile(
            dockerfile,
            context=Path(context).absolute(),
            target=target,
            args=args or {},
            contexts=contexts or {},
            platform=_platform(platform) or Platform.current(),
            store=store or Store.default(),
        )
        given = evolve(given, secrets=secrets_of(secrets), ssh=agents_of(ssh), insecure=insecure)
        builder = cls.__new__(cls)
        builder.__attrs_init__(lowered.target, lowered.first, Path(context).absolute(), given)
        return builder

    def check(self) -> tuple[BuildWarning, ...]:
        """What in the Dockerfile is allowed and yet most often a mistake; nothing is built.

        The checks are those of ``docker build --check``. Where no Dockerfile was read there is nothing to
        find. To check a file without pulling its base images: `pycontainer.build.dockerfile.check`.
        """
        if self._given.origin is None:
            return ()
        request = self._given.origin.request
        return check(request.dockerfile, ignore=request.ignore)

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
        ssh: Mapping[str, SshPlace] | None = None,
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
            ssh: Sockets of SSH agents or files of keys, by id; likewise.
            insecure: Whether commands may ask for all rights.
            progress: Called with each event, by one thread at a time.
            timeout: Seconds for the whole build.

        Raises:
            BuildError: A step cannot be done, `BuildStepFailed` where a command failed; or a cache or
                output cannot be written.
            TimeoutExpired: The build took too long.
            RegistryError: The base image cannot be pulled, or the registry takes no image or cache.
        """
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
            secrets=secrets_of(secrets),
            ssh=agents_of(ssh),
            insecure=insecure,
        )
        return build(
            self.target,
            store or self._store(),
            options.with_given(self._given),
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

        Stages without a platform of their own are built for each platform, all at the same time. A
        Dockerfile that the Builder was made from is read for each.
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
        )
        return build_index(
            self._targets(platforms),
            store or self._store(),
            options.with_given(self._given),
            reference=Reference.parse(tag) if isinstance(tag, str) else tag,
            attestations=Attestations(sbom=sbom, provenance=provenance),
            outputs=_all(outputs),
            push=push,
        )

    def _targets(self, platforms: Sequence[str | Platform]) -> dict[Platform, Vertex]:
        """What is built for each platform, each once."""
        origin = self._given.origin
        named = [each for each in map(_platform, platforms) if each is not None]
        wanted = named or [self._given.platform or Platform.current()]
        if origin is None:
            return dict.fromkeys(wanted, self.target)
        return {each: origin.for_platform(self.target, each) for each in wanted}

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


def _platform(platform: str | Platform | None) -> Platform | None:
    return Platform.parse(platform) if isinstance(platform, str) else platform


def _path(context: str | os.PathLike[str] | None) -> Path | None:
    return None if context is None else Path(context).absolute()
