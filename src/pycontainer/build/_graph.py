"""The build graph: what is to be done, as values.

A `Vertex` is an operation with the vertices it needs. Vertices are made by frontends (`Builder`, a
Dockerfile) and solved by `pycontainer.build._solver`, which knows `Source` and `Step` and nothing of
what the operations do: a new one is a new subclass.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import attrs
from attrs import field, frozen

from pycontainer.oci import ContainerConfig, Descriptor, Digest, History, ImageConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pycontainer.build._work import Work
    from pycontainer.build.dockerfile._location import Location

__all__ = [
    "Directory",
    "Layer",
    "Operation",
    "Result",
    "Source",
    "State",
    "Step",
    "Task",
    "Vertex",
    "canonical",
    "depth_first",
]

# --- what vertices give ------------------------------------------------------------------------


@frozen
class Layer:
    """A layer of an image: its stored blob, and the digest of the tar in it."""

    descriptor: Descriptor
    diff_id: Digest


@frozen
class Material:
    """What a source took from elsewhere, as the provenance of an image names it.

    Attributes:
        uri: Where it is from, without user and password.
        algorithm: What its digest was made with, as ``sha256``; for a git repository ``sha1`` or ``sha256``.
        hex: The digest; for a git repository its commit.
    """

    uri: str
    algorithm: str
    hex: str


@frozen
class State:
    """An image in the making.

    Attributes:
        layers: The layers, bottom first.
        config: The config that describes them.
        material: What it is from, as long as no step has changed it.
    """

    layers: tuple[Layer, ...] = ()
    config: ImageConfig = field(factory=ImageConfig)
    material: Material | None = field(default=None, eq=False)

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The layers' diff_ids, which together name the file system's content."""
        return tuple(layer.diff_id for layer in self.layers)

    @property
    def chain_id(self) -> Digest | None:
        """One digest for the whole file system; None for the empty one."""
        return self.config.chain_ids[-1] if self.layers else None

    def after(
        self,
        history: History,
        *,
        layer: Layer | None = None,
        config: ContainerConfig | None = None,
    ) -> State:
        """The state after a step.

        Args:
            history: How the step is recorded; whether it made no layer is filled in.
            layer: What it adds on top.
            config: What containers do from now on, where the step changes that.
        """
        layers = self.layers if layer is None else (*self.layers, layer)
        history = attrs.evolve(history, empty_layer=layer is None)
        changed = self.config.evolve(
            created=history.created,
            config=self.config.config if config is None else config,
            diff_ids=tuple(each.diff_id for each in layers),
            history=(*self.config.history, history),
        )
        return State(layers, changed)


@frozen
class Directory:
    """A directory of this machine, from which files are copied.

    Attributes:
        path: Where it is.
        ignore: Patterns of what nobody sees of it, as those of a ``.dockerignore``.
        material: What it is from, if it is no directory of this machine's user.
    """

    path: Path
    ignore: tuple[str, ...] = ()
    material: Material | None = field(default=None, eq=False)


Result = State | Directory
"""What solving a vertex gives."""

# --- what vertices are made of -----------------------------------------------------------------


@frozen
class Operation(ABC):
    """What a vertex does. Operations are frozen attrs classes: their fields are their identity."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The operation as a Dockerfile would have it, for events and errors."""

    def definition(self) -> object:
        """What tells this operation from others, as plain values that JSON knows."""
        return attrs.asdict(self)


class Source(Operation):
    """Needs no other vertex: where images and files come from."""

    @abstractmethod
    def load(self, work: Work) -> Result:
        """Get hold of the source.

        Raises:
            BuildError: It is not there.
        """


class Step(Operation):
    """Adds at most one layer to the state that is its vertex's first input.

    A layer from the cache and one just made end in the same image, because `apply` alone shapes it.
    """

    @abstractmethod
    def task(self, base: State, others: Sequence[Result], work: Work) -> Task | None:
        """What there is to do for the layer; None where a step changes no files.

        Args:
            base: The state that the step continues.
            others: What its vertex's further inputs gave.
            work: The build's surroundings.
        """

    @abstractmethod
    def apply(self, base: State, layer: Layer | None, work: Work) -> State:
        """The state after the step; depends on nothing but the arguments."""


class Task(ABC):
    """The making of one layer, which the cache may spare."""

    @abstractmethod
    def cache_keys(self) -> Iterator[object]:
        """What the layer depends on, cheapest first.

        Any one of the keys decides what the layer will be. A later one is asked for only if the cache
        does not know the earlier ones.

        Returns:
            Plain values that JSON knows. The solver adds the operation's class, the epoch and the
            compression.
        """

    @abstractmethod
    def execute(self) -> Layer | None:
        """Do the work and store the layer; None if no file changed. Called after all `cache_keys`."""


@frozen(eq=False)
class Vertex:
    """An operation, and the vertices whose results it works on.

    Two vertices are equal if they do the same to the same inputs; a build solves them once.

    Attributes:
        operation: What to do.
        inputs: The vertices it needs; of a `Step`, the first one is what it continues.
        location: Where a Dockerfile says so; makes no difference to what the vertex is.
        digest: Names the vertex; covers its operation and all that it needs.
    """

    operation: Source | Step
    inputs: tuple[Vertex, ...] = field(default=(), repr=False)
    location: Location | None = field(default=None, repr=False, kw_only=True)
    digest: Digest = field(init=False)

    def __attrs_post_init__(self) -> None:
        assert bool(self.inputs) == isinstance(self.operation, Step), "only a step has inputs"
        identity = [
            type(self.operation).__name__,
            self.operation.definition(),
            [str(vertex.digest) for vertex in self.inputs],
        ]
        object.__setattr__(self, "digest", Digest.of(canonical(identity)))

    @property
    def title(self) -> str:
        """The operation as a Dockerfile would have it."""
        return self.operation.title

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Vertex) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


def canonical(value: object) -> bytes:
    """The one JSON text of a plain value; digests, paths and the like as their text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()


def depth_first(target: Vertex) -> list[Vertex]:
    """All that a vertex needs, each once and after its inputs; `target` comes last."""
    ordered: dict[Vertex, None] = {}
    stack = [(target, iter(target.inputs))]
    while stack:
        vertex, inputs = stack[-1]
        needed = next((each for each in inputs if each not in ordered), None)
        if needed is None:
            ordered[vertex] = None
            stack.pop()
        else:
            stack.append((needed, iter(needed.inputs)))
    return list(ordered)
