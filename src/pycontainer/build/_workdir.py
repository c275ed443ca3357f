"""WORKDIR: sets the working directory, which has to be there for all that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen
from typing_extensions import override

from pycontainer.build._destination import absolute, directories, lookup_owner, resolve
from pycontainer.build._entries import store_layer, tree_of
from pycontainer.build._graph import Layer, Result, State, Step, Task
from pycontainer.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontainer.build._work import Work

__all__ = ["Workdir"]


@frozen
class Workdir(Step):
    """Sets the working directory, relative to the one before, and makes it where it is missing.

    What is made belongs to the image's user, as BuildKit has it.
    """

    path: str

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return f"WORKDIR {self.path}"

    @override
    def task(self, base: State, others: Sequence[Result], work: Work) -> Task:
        return _MakeDirectory(absolute(self.path, base.config.config), base, work)

    @override
    def apply(self, base: State, layer: Layer | None, work: Work) -> State:
        config = base.config.config
        changed = evolve(config, working_dir=absolute(self.path, config))
        return base.after(work.history(self.title), layer=layer, config=changed)


@frozen
class _MakeDirectory(Task):
    path: str
    base: State
    work: Work

    @override
    def cache_keys(self) -> Iterator[object]:
        user = self.base.config.config.user
        yield [self.base.chain_id, self.path, *([user] if user else [])]

    @override
    def execute(self) -> Layer | None:
        tree = tree_of(self.base, self.work)
        place = resolve(tree, self.path)
        node = tree.lookup(place)
        if node is None and place != "/":
            user = self.base.config.config.user
            owner = lookup_owner(user, tree) if user else (0, 0)
            entries = directories(tree, place, owner=owner, epoch=self.work.epoch)
            return store_layer(entries, self.work)
        if node is not None and not node.is_dir:
            raise BuildError(f"WORKDIR {self.path}: in the image that is not a directory")
        return None
