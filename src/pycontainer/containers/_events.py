"""The events of a store, as programs ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainer.content import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pycontainer.content import Event

__all__ = ["events"]


def events(
    *,
    since: float | None = None,
    until: float | None = None,
    follow: bool = False,
    filters: Mapping[str, str | Sequence[str]] | None = None,
    store: Store | None = None,
) -> Iterator[Event]:
    """What happened to containers, images, networks and volumes, in whichever process, oldest first.

    Args:
        since: Only events from that time on, seconds since the epoch. Left out: all that are kept,
            with `follow` only those that come.
        until: Only events before that time, at which `follow` ends.
        follow: Wait for more.
        filters: As for `Store.events`, such as ``{"type": "container", "event": ["start", "die"]}``.
        store: Whose; None for the default store.

    Raises:
        StoreError: There is no such filter.
    """
    return (store or Store.default()).events(
        since=since, until=until, follow=follow, filters=filters
    )
