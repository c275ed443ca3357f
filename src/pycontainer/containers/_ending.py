"""The end of a container, and of a handle on it."""

from __future__ import annotations

import warnings
from typing import Final, Self

from pycontainer.containers import _home
from pycontainer.containers._contents import Contents
from pycontainer.containers._inside import close_descriptor
from pycontainer.containers._life import DELETE_SECONDS
from pycontainer.errors import ContainerStateError

__all__ = ["LIVE", "Ending"]

LIVE: Final = ("running", "paused", "restarting")


class Ending(Contents):
    """The part of `Container` that removes it, or lets it go."""

    def delete(self, *, force: bool = False) -> None:
        """Remove it with its files and its log; one that is gone is removed.

        Args:
            force: Also when it runs: it is killed.

        Raises:
            ContainerStateError: It runs, and `force` is not set.
        """
        if not force and self.state in LIVE:
            raise ContainerStateError(
                f"container {self.name} runs", remedy="stop it first, or delete(force=True)"
            )
        if self._running is not None and self._attached:
            self._running.close()
        _home.delete(self._store, self._directory, self.id, DELETE_SECONDS)
        if self._running is not None:
            self._running.close()
        self.close_stdin()
        self._disown()
        self._attached = False

    def close(self) -> None:
        """Let the handle go. An attached container ends at once, and nothing of it stays."""
        if self._ends_with_handle:
            self.delete(force=True)
        elif self._running is not None:
            self._running.close()
        self.close_stdin()
        self._disown()
        self._running = None

    def _disown(self) -> None:
        owned, self._owned = self._owned, -1
        close_descriptor(owned)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_attached", False) and self._ends_with_handle:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            self.close()
