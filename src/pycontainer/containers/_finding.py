"""The containers of a store: found, listed, and cleared away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from pycontainer.containers import _home
from pycontainer.containers._ending import LIVE, Ending
from pycontainer.content import Store
from pycontainer.errors import ContainerStateError
from pycontainer.images import Image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.containers._life import Status

__all__ = ["Finding"]


class Finding(Ending):
    """The part of `Container` that finds those that are there."""

    @classmethod
    def get(cls, name_or_id: str, *, store: Store | None = None) -> Self:
        """Find a container by its name, its id, or an unambiguous beginning of that.

        Raises:
            ContainerNotFound: There is none, or more than one.
        """
        store = store or Store.default()
        return cls(store, _home.find(store, name_or_id))

    @classmethod
    def list(
        cls,
        *,
        all: bool = False,
        labels: Mapping[str, str] | None = None,
        status: Status | None = None,
        name: str | None = None,
        ancestor: Image | str | None = None,
        exit_code: int | None = None,
        since: Self | None = None,
        before: Self | None = None,
        store: Store | None = None,
    ) -> tuple[Self, ...]:
        """The containers of a store, oldest first, whichever process started them.

        Args:
            all: Also those that do not run; so with `status` and `exit_code`.
            labels: Only those that carry these.
            status: Only those in that state.
            name: Only those in whose name this regular expression is found.
            ancestor: Only those of that image, or of the name of one.
            exit_code: Only those that ended with it.
            since: Only those made after that one.
            before: Only those made before that one.
            store: None for the default store.

        Raises:
            ImageNotFound: There is no image of the name `ancestor`.
        """
        store = store or Store.default()
        wanted = dict(labels or {}).items()
        if isinstance(ancestor, str):
            ancestor = Image.get(ancestor, store=store)
        found = (
            cls(store, record)
            for record in _home.records(store)
            if wanted <= record.labels.items()
            and (name is None or re.search(name, record.name))
            and (ancestor is None or record.manifest["digest"] == str(ancestor.digest))
            and (since is None or record.created_at > since.created_at)
            and (before is None or record.created_at < before.created_at)
        )
        if exit_code is not None:
            found = (c for c in found if c.exit_code == exit_code)
        if status is not None:
            return tuple(c for c in found if c.state == status)
        return tuple(c for c in found if all or exit_code is not None or c.state in LIVE)

    @classmethod
    def prune(
        cls,
        *,
        labels: Mapping[str, str] | None = None,
        until: float | None = None,
        store: Store | None = None,
    ) -> tuple[str, ...]:
        """Remove the detached containers that have ended or were never started; give their ids.

        Attached ones go with the program that started them.

        Args:
            labels: Only those that carry these.
            until: Only those made before that time, seconds since the epoch.
            store: None for the default store.
        """
        gone = []
        made = cls.list(all=True, labels=labels, store=store)
        for container in (c for c in made if c.state in ("created", "stopped")):
            try:
                seen = container.inspect()
            except ContainerStateError:  # somebody else has removed it, or is just making it
                continue
            old = until is None or seen.created_at < until
            whole = seen.started_at is not None or seen.state == "created"
            if seen.detached and whole and old:
                container.delete()
                gone.append(container.id)
        return tuple(gone)
