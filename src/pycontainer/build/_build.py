"""From a graph to an image: what `Builder.build` does, for any frontend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attrs import field, frozen

from pycontainer.build._cache import BuildCache
from pycontainer.build._cache_imports import CacheImports
from pycontainer.build._cache_places import CachePlace, InlineCache
from pycontainer.build._cache_records import INLINE, Records
from pycontainer.build._flatten import squash
from pycontainer.build._graph import State
from pycontainer.build._solver import Solver
from pycontainer.build._work import Work, default_epoch
from pycontainer.images import Image, create
from pycontainer.oci import Compression

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from pycontainer.build._events import Progress
    from pycontainer.build._graph import Vertex
    from pycontainer.build._outputs import Output
    from pycontainer.content import Store
    from pycontainer.oci import ImageConfig, Reference

__all__ = ["BuildOptions", "build", "solve"]


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

    def work(self, store: Store) -> Work:
        """The surroundings that the steps work in."""
        epoch = self.source_date_epoch
        return Work(
            store=store,
            epoch=default_epoch() if epoch is None else epoch,
            context=self.context,
            compression=Compression(self.compression),
            level=self.level,
        )


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
    with store.lease():
        state, config = solve(target, store, options)
        layers = [(layer.descriptor, layer.diff_id) for layer in state.layers]
        image = create(store, layers, config, tag=tag)
        for output in outputs:
            output.write(image)
        if push:
            image.push()
        return image


def solve(target: Vertex, store: Store, options: BuildOptions) -> tuple[State, ImageConfig]:
    """Solve a graph, and write the caches that are wanted.

    Returns:
        What the target gave, and the config of its image.
    """
    work = options.work(store)
    with CacheImports(store, options.cache_from) as imports:
        solver = Solver(
            work,
            BuildCache(store),
            progress=options.progress,
            use_cache=options.use_cache,
            imports=imports,
        )
        state = solver.solve(target, timeout=options.timeout)
    assert isinstance(state, State), f"{target.title} gives no image"
    if options.squash:
        state = squash(_base(target, solver), state, work)
    config = state.config
    for place in options.cache_to:
        if isinstance(place, InlineCache):
            said = Records.inline(solver.records, state.layers)
            config = config.evolve(extra={**config.extra, INLINE: said})
        else:
            place.write(store, solver.records)
    return state, config


def _base(target: Vertex, solver: Solver) -> State:
    """What the stage of a vertex began with."""
    vertex = target
    while vertex.inputs:
        vertex = vertex.inputs[0]
    base = solver.results[vertex]
    assert isinstance(base, State)
    return base
