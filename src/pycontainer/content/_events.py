"""What happens in a store: events that every process appends to one journal, and anybody reads."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import field, frozen

from pycontainer._linux import journal
from pycontainer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Event", "EventKind", "Filters", "events_of", "record_event"]

EventKind = Literal["container", "image", "network", "volume", "builder"]
Filters = Mapping[str, str | Sequence[str]]
_DIRECTORY: Final = "events"
_CHUNK: Final = 1 << 16
_RECHECK_SECONDS: Final = 0.5
_BLIND_SECONDS: Final = 0.05
_LINGER_SECONDS: Final = 2.0  # for who opened a file just before it was renamed
_NAMED: Final = ("container", "image", "network", "volume")
_FILTERS: Final = ("type", "event", "label", *_NAMED)
_log = logging.getLogger("pycontainer.content")


@frozen
class Event:
    """Something that happened to a thing in a store.

    Attributes:
        time: Seconds since the epoch.
        kind: What the thing is: ``container``, ``image``, ``network``, ``volume`` or ``builder``.
        action: What happened, in Docker's words: ``start``, ``die``, ``pull``, ``health_status: healthy``.
        id: Which thing: the id of a container or network, the reference or id of an image, the name of a
            volume.
        attributes: What else is known, such as ``name``, ``image``, ``exitCode`` and, of a container,
            its labels.
    """

    time: float
    kind: EventKind
    action: str
    id: str
    attributes: Mapping[str, str] = field(factory=dict, hash=False)


def record_event(
    store: Path, kind: EventKind, action: str, subject: str, attributes: Mapping[str, str] = {}
) -> None:
    """Append an event to a store's journal; a full disk costs the event, not what it tells of."""
    document = {"time": time.time(), "kind": kind, "action": action, "id": subject}
    line = json.dumps({**document, "attributes": dict(attributes)}).encode() + b"\n"
    try:
        journal.append(str(store / _DIRECTORY), line)
    except OSError as error:
        _log.warning("event %s of %s %s is not recorded: %s", action, kind, subject, error)


def events_of(
    store: Path,
    *,
    since: float | None,
    until: float | None,
    follow: bool,
    filters: Filters,
) -> Iterator[Event]:
    """The events of a store; see `Store.events`."""
    unknown = set(filters) - set(_FILTERS)
    if unknown:
        raise StoreError(f"events cannot be chosen by {sorted(unknown)}; by {', '.join(_FILTERS)}")
    wanted = {name: [v] if isinstance(v, str) else list(v) for name, v in filters.items()}
    return _read(store / _DIRECTORY, since, until, wanted, follow=follow)


def _read(
    directory: Path,
    since: float | None,
    until: float | None,
    wanted: Mapping[str, Sequence[str]],
    *,
    follow: bool,
) -> Iterator[Event]:
    directory.mkdir(mode=0o700, exist_ok=True)
    begin = since if since is not None or not follow else time.time()
    with _Reader(directory) as reader:
        while True:
            over = not follow or (until is not None and time.time() >= until)
            for event in reader.read():
                if until is not None and event.time >= until:
                    continue
                if (begin is None or event.time >= begin) and _matches(event, wanted):
                    yield event
            if over:
                return
            left = _RECHECK_SECONDS if until is None else max(0.0, until - time.time())
            reader.wait(min(left, _RECHECK_SECONDS))


class _Reader:
    """Reads the journal's files, from the older one on, and waits for more."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: list[_File] = []
        self._watch = -1
        if sys.platform == "linux":
            from pycontainer._linux import inotify

            self._watch = inotify.watch(str(directory), inotify.MODIFIED | inotify.CREATED)

    def read(self) -> Iterator[Event]:
        """The events that have been appended since the last time."""
        self._look()
        now = time.monotonic()
        for file in list(self._files):
            yield from file.read()
            if file is not self._files[-1] and file.left is None:
                file.left = now
            # An open file's number is not given to another one; one with a name would be found again.
            if file.left is not None and now - file.left > _LINGER_SECONDS and file.is_nameless:
                file.close()
                self._files.remove(file)

    def _look(self) -> None:
        """Open the files that are new."""
        for name in (journal.PREVIOUS, journal.CURRENT):
            with contextlib.suppress(FileNotFoundError):
                file = _File(os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC))
                if any(file.identity == known.identity for known in self._files):
                    file.close()
                else:
                    self._files.append(file)

    def wait(self, seconds: float) -> None:
        """Return when something has been appended, at the latest after so many seconds."""
        if self._watch < 0:
            time.sleep(min(seconds, _BLIND_SECONDS))
            return
        waiter = select.poll()
        waiter.register(self._watch, select.POLLIN)
        waiter.poll(seconds * 1000)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._watch, 1 << 12):
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files:
            file.close()
        if self._watch >= 0:
            os.close(self._watch)


class _File:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        status = os.fstat(fd)
        self.identity = (status.st_dev, status.st_ino)
        self.left: float | None = None

    def read(self) -> Iterator[Event]:
        while data := os.read(self._fd, _CHUNK):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError, TypeError):  # cut off by a full disk
                    yield Event(**json.loads(line))

    @property
    def is_nameless(self) -> bool:
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        os.close(self._fd)


def _matches(event: Event, wanted: Mapping[str, Sequence[str]]) -> bool:
    """Whether an event passes: of each filter one value must fit, of labels all."""
    for name, values in wanted.items():
        if name == "type":
            fits = event.kind in values
        elif name == "event":
            fits = event.action.partition(":")[0] in values or event.action in values
        elif name == "label":
            fits = all(_has_label(event, value) for value in values)
        else:
            fits = event.kind == name and any(_is_named(event, value) for value in values)
            if name == "image" and event.kind == "container":
                fits = event.attributes.get("image") in values
        if not fits:
            return False
    return True


def _has_label(event: Event, label: str) -> bool:
    key, equals, value = label.partition("=")
    known = event.attributes.get(key)
    return known == value if equals else known is not None


def _is_named(event: Event, name: str) -> bool:
    return name in (event.id, event.attributes.get("name")) or (
        len(name) >= 12 and event.id.startswith(name)
    )
