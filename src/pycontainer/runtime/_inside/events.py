"""What a monitor records in the journal of the container's store."""

from __future__ import annotations

import time

from pycontainer._linux import journal

__all__ = ["Events"]


class Events:
    """Appends events of one container.

    Args:
        place: The directory of the journal, the container's id, and its attributes as members of a JSON
            object; empty where nobody wants to know.
    """

    def __init__(self, place: object) -> None:
        assert isinstance(place, list)
        self._place: list[str] = place

    def of_container(self, action: str, more: str = "") -> None:
        """Tell what has become of the container; `more` are further members of the JSON object."""
        if self._place:
            self._append("container", action, self._place[1], f"{self._place[2]}{more}")

    def of_networks(self, action: str, networks: list[object]) -> None:
        """Tell that the container comes into networks, given by id and name, or leaves them."""
        for network in networks if self._place else []:
            assert isinstance(network, tuple)
            about = f'"name": "{network[1]}", "container": "{self._place[1]}"'
            self._append("network", action, network[0], about)

    def _append(self, kind: str, action: str, about: str, attributes: str) -> None:
        line = (
            f'{{"time": {time.time():.6f}, "kind": "{kind}", "action": "{action}", '
            f'"id": "{about}", "attributes": {{{attributes}}}}}\n'
        )
        try:
            journal.append(self._place[0], line.encode())
        except OSError:  # a full disk costs the event
            pass
