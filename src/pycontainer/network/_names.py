"""Names by which containers find each other: one small file for each endpoint, read by resolvers.

``<store>/networks/<network>/<endpoint>`` holds one line: the addresses, then the names. The container's
monitor removes it at its end, so a name does not outlive its container; resolvers (which run in the
monitors) notice any change by the directory's time.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from pycontainer.content import Store
    from pycontainer.network._records import EndpointRecord

__all__ = ["directory", "forget", "forget_network", "is_known", "publish", "strays"]


def directory(store: Store, network_id: str) -> Path:
    """Where the names of a network are."""
    return store.directory("networks") / network_id


def publish(store: Store, endpoint: EndpointRecord) -> Path:
    """Make an endpoint's names known; return its file."""
    home = directory(store, endpoint.network)
    home.mkdir(mode=0o700, exist_ok=True)
    addresses = [str(endpoint.address)]
    if endpoint.address6 is not None:
        addresses.append(str(endpoint.address6))
    temporary = home / f".{endpoint.id}"
    temporary.write_text(f"{','.join(addresses)} {' '.join(endpoint.names)}\n")
    return temporary.rename(home / endpoint.id)


def is_known(store: Store, endpoint: EndpointRecord) -> bool:
    """Whether an endpoint's names are made known."""
    return (directory(store, endpoint.network) / endpoint.id).exists()


def forget(store: Store, endpoint: EndpointRecord) -> None:
    """Take an endpoint's names away."""
    with contextlib.suppress(FileNotFoundError):
        (directory(store, endpoint.network) / endpoint.id).unlink()


def strays(store: Store, network_id: str, endpoints: Container[str]) -> list[Path]:
    """Files of endpoints that there are none of: who published them was killed before they came to be."""
    try:
        found = list(directory(store, network_id).iterdir())
    except FileNotFoundError:
        return []
    return [path for path in found if path.name.removeprefix(".") not in endpoints]


def forget_network(store: Store, network_id: str) -> None:
    """Remove a network's directory."""
    shutil.rmtree(directory(store, network_id), ignore_errors=True)
