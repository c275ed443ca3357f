"""One graph for several platforms: an index of images, and what is to be said of them."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from pycontainer.build._attestations import SBOM, Statement, attest, provenance
from pycontainer.build._build import BuildOptions, Solved, solve, write_caches
from pycontainer.build._cache_imports import CacheImports
from pycontainer.build._graph import Source, depth_first
from pycontainer.build._sbom import packages_of, spdx
from pycontainer.build._work import Cancellation, Cancelled
from pycontainer.errors import BuildError
from pycontainer.images import ImageIndex, create_index
from pycontainer.oci import Platform, Reference
from pycontainer.snapshots import TreeView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainer.build._events import Event
    from pycontainer.build._graph import Vertex
    from pycontainer.build._outputs import Output
    from pycontainer.content import Store
    from pycontainer.images import Image
    from pycontainer.oci import Descriptor

__all__ = ["Attestations", "build_index"]


@frozen(kw_only=True)
class Attestations:
    """What is said of the images of an index."""

    sbom: bool = False
    provenance: bool = False


def build_index(
    targets: Mapping[Platform, Vertex],
    store: Store,
    options: BuildOptions,
    *,
    reference: Reference | None,
    attestations: Attestations,
    outputs: Sequence[Output] = (),
    push: bool = False,
) -> ImageIndex:
    """Build for several platforms at the same time.

    Args:
        targets: What is wanted for each platform.
        store: Where to build.
        options: How.
        reference: A name for the index, and for this machine's image, else the first.
        attestations: What is said of each image.
        outputs: What is written of it.
        push: Whether it is sent to the registry that `reference` names.

    Raises: as `Builder.build_index`.
    """
    if push and reference is None:
        raise ValueError("an index without a tag cannot be pushed")
    for output in outputs:
        if output.format not in ("oci-archive", "oci-layout"):
            raise BuildError(
                f"{output.path}: {output.format} holds one image, not an index of several",
                remedy="write an oci-archive or an oci-layout, or build for one platform",
            )
    with store.lease():
        with CacheImports(store, options.cache_from) as imports:
            solved = _solve_all(targets, store, options, imports)
        write_caches(store, options, [record for each in solved for record in each.records])
        named = _of_this_machine(list(targets))
        entries: list[Descriptor] = []
        about: list[Descriptor] = []
        for number, ((platform, target), each) in enumerate(
            zip(targets.items(), solved, strict=True)
        ):
            tag = reference if number == named else None
            image = each.image(store, tag, options, keep=False)
            entries.append(evolve(image.descriptor, platform=platform))
            statements = _statements(target, image, platform, each, attestations, options)
            if statements:
                about.append(attest(store, image, reference, statements))
        index = create_index(store, [*entries, *about], tag=reference)
        for output in outputs:
            index.save(
                output.path, format="oci-layout" if "layout" in output.format else "oci-archive"
            )
        if push:
            index.push()
        return index


def _of_this_machine(platforms: Sequence[Platform]) -> int:
    here = Platform.current()
    return next((i for i, each in enumerate(platforms) if each.matches(here)), 0)


def _solve_all(
    targets: Mapping[Platform, Vertex],
    store: Store,
    options: BuildOptions,
    imports: CacheImports,
) -> list[Solved]:
    """Solve for each platform; the first failure ends all, and is raised."""
    cancellation = Cancellation()
    options = evolve(options, progress=_one_at_a_time(options))
    with ThreadPoolExecutor(len(targets), thread_name_prefix="pycontainer-platform") as pool:
        futures = [
            pool.submit(
                contextvars.copy_context().run,
                lambda platform, target: solve(
                    target, store, options, imports, platform=platform, cancellation=cancellation
                ),
                platform,
                target,
            )
            for platform, target in targets.items()
        ]
        try:
            failures = [future.exception() for future in futures]
        except BaseException:
            cancellation.cancel()
            raise
    real = [each for each in failures if each is not None and not isinstance(each, Cancelled)]
    for failure in (*real, *filter(None, failures)):
        raise failure
    return [future.result() for future in futures]


def _one_at_a_time(options: BuildOptions) -> _Guarded | None:
    return None if options.progress is None else _Guarded(options)


class _Guarded:
    """The callback of a build, for the threads of several."""

    def __init__(self, options: BuildOptions) -> None:
        self._progress = options.progress
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        assert self._progress is not None
        with self._lock:
            self._progress(event)


def _statements(
    target: Vertex,
    image: Image,
    platform: Platform,
    solved: Solved,
    wanted: Attestations,
    options: BuildOptions,
) -> list[Statement]:
    said = []
    if wanted.sbom:
        packages = packages_of(TreeView(image.unpack()))
        name = "image" if image.reference is None else image.reference.familiar
        created = image.config.created or "1970-01-01T00:00:00Z"
        said.append(Statement(SBOM, spdx(name, image.digest, packages, created)))
    if wanted.provenance:
        vertices = depth_first(target)
        steps = [vertex.title for vertex in vertices if not isinstance(vertex.operation, Source)]
        sources = [solved.results.get(vertex) for vertex in vertices if not vertex.inputs]
        materials = {each.material for each in sources if each and each.material}
        said.append(
            provenance(platform, steps, materials, epoch=options.epoch, target=target.digest)
        )
    return said
