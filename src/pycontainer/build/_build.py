"""From a graph to an image: what `Builder.build` does, for any frontend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attrs import evolve, field, frozen

from pycontainer.build._cache import BuildCache
from pycontainer.build._cache_imports import CacheImports
from pycontainer.build._cache_places import CachePlace, InlineCache
from pycontainer.build._cache_records import INLINE, Record, Records
from pycontainer.build._flatten import squash
from pycontainer.build._graph import State
from pycontainer.build._solver import Solver
from pycontainer.build._work import Cancellation, Work, default_epoch
from pycontainer.images import Image, create
from pycontainer.oci import Compression

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from pycontainer.build._events import Progress
    from pycontainer.build._given import Given
    from pycontainer.build._graph import Result, Vertex
    from pycontainer.build._outputs import Output
    from pycontainer.content import Store
    from pycontainer.oci import Platform, Reference

__all__ = ["BuildOptions", "Solved", "build", "solve", "write_caches"]


def _path(path: str | os.PathLike[str]) -> Path:
    return Path(path)


@frozen(kw_only=True)
class BuildOptions:
    """How a graph is built; the arguments of `Builder.build` say what they are for."""

    context: Path = field(default=Path(), converter=_path)
    use_cache: bool = True
    cache_from: Sequence[CachePlace] = ()
    cache_to: Sequence[CachePlace | InlineCache] = ()
    compression: Literal["gzip", "zstd", "none"] = "gzip"
    level: int | None = None
    squash: bool = False
    source_date_epoch: int | None = None
    progress: Progress | None = None
    timeout: float | None = None
    secrets: Mapping[str, bytes | Path] = field(factory=dict, repr=False)
    ssh: Mapping[str, tuple[Path, ...]] = field(factory=dict, repr=False)
    proxies: Mapping[str, str] = field(factory=dict, repr=False)
    insecure: bool = False

    def with_given(self, given: Given) -> BuildOptions:
        """With what the Builder knows as well; what was said for the build goes before."""
        return evolve(
            self,
            secrets={**given.secrets, **self.secrets},
            ssh={**given.ssh, **self.ssh},
            proxies=given.proxies,
            insecure=self.insecure or given.insecure,
        )

    @property
    def epoch(self) -> int:
        """Seconds since 1970 that no time in the image is later than."""
        given = self.source_date_epoch
        return default_epoch() if given is None else given


@frozen
class Solved:
    """A graph that was solved.

    Attributes:
        state: What the target gave.
        results: What each vertex gave.
        records: What the steps made, or were spared.
    """

    state: State
    results: Mapping[Vertex, Result]
    records: tuple[Record, ...]

    def image(
        self, store: Store, tag: str | Reference | None, options: BuildOptions, *, keep: bool = True
    ) -> Image:
        """The image of it, in the store; with `keep` even if it has no name."""
        config = self.state.config
        if any(isinstance(place, InlineCache) for place in options.cache_to):
            said = Records.inline(self.records, self.state.layers)
            config = config.evolve(extra={**config.extra, INLINE: said})
        layers = [(layer.descriptor, layer.diff_id) for layer in self.state.layers]
        return create(store, layers, config, tag=tag, keep=keep)


def build(
    target: Vertex,
    store: Store,
    options: BuildOptions,
    *,
    tag: str | Reference | None = None,
    outputs: Sequence[Output] = (),
    push: bool = False,
) -> Image:
    """Build the image of a vertex, put it into the store and wherever else it is to go.

    Args:
        target: What is wanted.
        store: Where to build.
        options: How.
        tag: A name for the image.
        outputs: What is written of it.
        push: Whether it is sent to the registry that `tag` names.

    Raises: as `Builder.build`.
    """
    if push and tag is None:
        raise ValueError("an image without a tag cannot be pushed")
    with store.lease():
        with CacheImports(store, options.cache_from) as imports:
            solved = solve(target, store, options, imports)
        write_caches(store, options, solved.records)
        image = solved.image(store, tag, options)
        for output in outputs:
            output.write(image)
        if push:
            image.push()
        return image


def solve(
    target: Vertex,
    store: Store,
    options: BuildOptions,
    imports: CacheImports,
    *,
    platform: Platform | None = None,
    cancellation: Cancellation | None = None,
) -> Solved:
    """Solve a graph.

    Args:
        target: What is wanted.
        store: Where to build.
        options: How.
        imports: Caches from elsewhere.
        platform: What for; None for this machine.
        cancellation: Told, and heard, when the build ends early.
    """
    cache = BuildCache(store)
    with store.temporary("build") as scratch:
        work = Work(
            store=store,
            epoch=options.epoch,
            context=options.context,
            platform=platform,
            compression=Compression(options.compression),
            level=options.level,
            cancellation=cancellation or Cancellation(),
            scratch=scratch,
            secrets=options.secrets,
            ssh=options.ssh,
            proxies=options.proxies,
            insecure=options.insecure,
        )
        solver = Solver(
            work,
            cache,
            progress=options.progress,
            use_cache=options.use_cache,
            imports=imports,
        )
        state = solver.solve(target, timeout=options.timeout)
        assert isinstance(state, State), f"{target.title} gives no image"
        if options.squash:
            state = squash(_base(target, solver), state, work, cache)
    return Solved(state, solver.results, solver.records)


def write_caches(store: Store, options: BuildOptions, records: Iterable[Record]) -> None:
    """Put what was made where the options say; the image itself is `Solved.image`'s affair."""
    known = {record.key: record for record in records}
    for place in options.cache_to:
        if isinstance(place, CachePlace):
            place.write(store, list(known.values()))


def _base(target: Vertex, solver: Solver) -> State:
    """What the stage of a vertex began with."""
    vertex = target
    while vertex.inputs:
        vertex = vertex.inputs[0]
    base = solver.results[vertex]
    assert isinstance(base, State)
    return base
