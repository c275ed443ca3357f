"""Where containers live on disk, and how their directories come and go.

``<store>/containers/<id>`` holds ``container.json`` (this module's), ``config.json`` and what the
monitor keeps (`pycontainer.runtime`), and the writable layer. It is the one thing a container leaves:
who removes it has removed the container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from pycontainer import images
from pycontainer._linux import inotify
from pycontainer.containers import _networking, _ranges
from pycontainer.containers._populate import populate
from pycontainer.containers._record import New, Record, read_record
from pycontainer.containers._seen import look, remembered
from pycontainer.containers._view import thaw_after_a_kill
from pycontainer.containers._volume import keep
from pycontainer.content import Schema, remove_tree
from pycontainer.errors import (
    ContainerError,
    ContainerNotFound,
    ContainerStateError,
    NameInUse,
    PlatformNotFound,
)
from pycontainer.oci import Descriptor, ImageConfig, Manifest, Platform, Reference
from pycontainer.runtime import (
    await_end,
    finish,
    is_watched,
    open_control,
    read_exit,
    read_state,
    request_deletion,
    warm_up,
)
from pycontainer.snapshots import RootfsPlan, Snapshot, TreeView, ensure_layer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pycontainer.containers._options import Options
    from pycontainer.containers._seen import Seen
    from pycontainer.content import Node, Store
    from pycontainer.images import Image
    from pycontainer.oci import Digest

__all__ = [
    "changes",
    "delete",
    "directory",
    "find",
    "find_image",
    "forget",
    "named",
    "own",
    "prepare",
    "reader",
    "records",
    "rename",
    "wait_for_end",
]

_OWNER: Final = "owner"  # whose lock says that the program that made the container lives
_SCHEMA: Final = Schema(
    "containers",
    1,
    "CREATE TABLE IF NOT EXISTS container_name (name TEXT PRIMARY KEY, id TEXT NOT NULL)",
)
_POLL_SECONDS: Final = 0.02
_UNDO_SECONDS: Final = 10.0
_YOUNG_SECONDS: Final = 60.0  # a directory without a monitor may still be in the making
_recovered: weakref.WeakSet[Store] = weakref.WeakSet()


def restore_layers(store: Store, record: Record) -> None:
    """Make the layers of a container's image again that were lost when the machine went down.

    Raises:
        ContentError: A stored layer is missing or damaged.
    """
    lowers = RootfsPlan.from_wire(record.rootfs).lowers
    if all(os.path.exists(lower) for lower in lowers):
        return
    manifest = Manifest.parse(store.blobs.read_bytes(Descriptor.from_json(record.manifest)))
    config = ImageConfig.parse(store.blobs.read_bytes(manifest.config))
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        ensure_layer(store, layer, diff_id)


def directory(store: Store, container_id: str) -> Path:
    """A container's directory."""
    return store.directory("containers") / container_id


@contextlib.contextmanager
def prepare(
    store: Store,
    image: Image | str,
    args: Sequence[str] | str,
    options: Options,
    *,
    name: str | None = None,
    detach: bool = False,
    stdin: bool = False,
    remove: bool = False,
    kept: bool = False,
) -> Iterator[New]:
    """Make a container's directory with all that is needed to launch it.

    Its record is for the body to write. If that raises, all of it is undone.

    Raises:
        NameInUse: Another container has that name.
        ContainerError: The options do not fit the image.
    """
    warm_up()
    recover(store)
    container_id = secrets.token_hex(32)
    home = directory(store, container_id)
    found = find_image(image, store, options.platform)
    options = options.for_image(found.config.config)
    seen = remembered(found, options)
    late = seen is not None and not (detach or kept or name) and _can_wait(options)
    home.mkdir(mode=0o700)
    try:
        # An attached container's files do not outlive this program, let alone a crash of the machine:
        # syncing them at the unmount would double the time that its end takes.
        volatile = not detach
        if seen is not None and late:
            snapshot = found.prepare(
                home, volatile=volatile, find=seen.layers.__getitem__, make=False
            )
        else:
            _claim(store, container_id, name, found, home)
            volumes = [m.source for m in options.mounts if m.kind == "volume" and m.source]
            keep(volumes, store=store, home=home)
            snapshot, seen = _make_files(found, options, home, volatile=volatile)
        spec = options.to_spec(
            found,
            args,
            store=store,
            directory=home,
            container_id=container_id,
            user=seen.user,
            find=lambda other: directory(store, find(store, other).id),
        )
        record = Record(
            id=container_id,
            name=name or container_id[:12],
            detached=detach,
            stdin=stdin,
            remove=remove,
            kept=kept,
            rootfs=dict(snapshot.plan.to_wire()),
            **_record_of(found, args, options, container_id),
        )

        def complete() -> None:
            if late:
                _claim(store, container_id, name, found, home)
                if found.prepare(home, volatile=volatile) != snapshot:
                    raise ContainerStateError(
                        f"the layers of {found.reference or found.id.short} were made anew meanwhile",
                        remedy="run it once more",
                    )
            options.write_files(home, container_id)
            populate(options.mounts, store=store, home=home, plan=snapshot.plan)
            store.record("container", "create", record.id, record.event_attributes())

        if not late:
            complete()
        yield New(record, home, spec, snapshot.plan, complete if late else None)
    except BaseException:
        if not _end(home, _UNDO_SECONDS):  # with its processes, if its monitor was killed
            remove_tree(home)
        forget(store, container_id)
        store.record("container", "destroy", container_id)
        raise


def _make_files(
    image: Image, options: Options, home: Path, *, volatile: bool
) -> tuple[Snapshot, Seen]:
    """Make what a container's files are mounted from, and find out what they say of who it runs as."""
    layers: dict[Digest, Path] = {}

    def find_layer(diff_id: Digest) -> Path:
        layers[diff_id] = image.find_layer(diff_id)
        return layers[diff_id]

    snapshot = image.prepare(home, volatile=volatile, find=find_layer)
    return snapshot, look(image, options, layers, _reader(snapshot.tree()))


def _record_of(
    image: Image, args: Sequence[str] | str, options: Options, container_id: str
) -> dict[str, Any]:
    """What is written down of the image and the options of a container, by the record's members."""
    config = image.config.config
    networking = evolve(
        options.networking, hostname=options.hostname_of(container_id), names=options.names
    )
    return {
        "image": str(image.reference or image.id),
        "labels": dict(options.labels),
        "created_at": time.time(),
        "stop_signal": options.upkeep.stop_signal or config.stop_signal or "SIGTERM",
        "manifest": image.descriptor.to_json(),
        "config": options.to_config(image, args).to_json(),
        "upkeep": options.upkeep.for_image(config).to_json(),
        "network": networking.to_json(),
    }


def _can_wait(options: Options) -> bool:
    """Whether a container's files can be made while its processes are: nothing else needs them before."""
    return (
        not options.mounts
        and options.networking.mode in ("none", "host")
        and options.namespaces.user in (None, "host")
    )


def find_image(image: Image | str, store: Store, platform: str | Platform | None) -> Image:
    """The image that a caller means; a name that the store lacks is pulled.

    Raises:
        PlatformNotFound: It is not for that platform.
        ContainerError: It is in another store.
    """
    wanted = Platform.parse(platform) if isinstance(platform, str) else platform
    if isinstance(image, str):
        return images.find_image(Reference.parse(image), wanted, store)
    if wanted is not None and not image.platform.matches(wanted):
        raise PlatformNotFound(
            f"image {image.reference or image.id.short} is for {image.platform}, wanted was {wanted}",
            remedy="give its name, which may lead to images for several platforms",
        )
    if image.store.path != store.path:
        raise ContainerError(
            f"image {image.reference or image.id.short} is in the store {image.store.path}, "
            f"the container is to be in {store.path}",
            remedy="pass store=image.store, or push the image and pull it there",
        )
    return image


def _claim(store: Store, container_id: str, name: str | None, image: Image, home: Path) -> None:
    """Keep the image's layers as long as the directory is there, and take the name."""
    store.db.ensure(_SCHEMA)
    needs: list[Node] = [("blob", str(image.digest))]
    needs += [("layer", str(diff_id)) for diff_id in image.diff_ids]
    with store.db.transaction() as connection:
        store.add_root("container", container_id, needs, path=home)
        if name is not None:
            _take_name(store, connection, container_id, name)


def _take_name(store: Store, connection: sqlite3.Connection, container_id: str, name: str) -> None:
    row = connection.execute("SELECT id FROM container_name WHERE name = ?", (name,)).fetchone()
    if row is not None and row[0] != container_id and directory(store, row[0]).exists():
        raise NameInUse(
            f"container {row[0][:12]} has the name {name!r}",
            remedy="choose another, or delete that container",
        )
    connection.execute("DELETE FROM container_name WHERE id = ?", (container_id,))
    connection.execute("INSERT OR REPLACE INTO container_name VALUES (?, ?)", (name, container_id))


def named(store: Store, record: Record) -> Record:
    """A container's record with the name that it has now."""
    store.db.ensure(_SCHEMA)
    query = "SELECT name FROM container_name WHERE id = ?"
    with store.db.transaction(write=False) as connection:
        row = connection.execute(query, (record.id,)).fetchone()
    return record if row is None else evolve(record, name=row[0])


def rename(store: Store, container_id: str, old: str, name: str) -> None:
    """Give a container another name; the database has the names, its own record only the first.

    Raises:
        NameInUse: Another container has that name.
        ContainerStateError: It is gone.
    """
    store.db.ensure(_SCHEMA)
    with store.db.transaction() as connection:
        if not directory(store, container_id).exists():
            raise ContainerStateError(f"container {container_id[:12]} is gone")
        _take_name(store, connection, container_id, name)
    _networking.rename(store, container_id, old, name)


def forget(store: Store, container_id: str) -> None:
    """Drop what the database knows of a container whose directory has gone."""
    with store.db.transaction() as connection:
        store.drop_root("container", container_id)
        store.db.ensure(_SCHEMA)
        connection.execute("DELETE FROM container_name WHERE id = ?", (container_id,))
    _networking.release(store, container_id)
    _ranges.release(store, container_id)


def records(store: Store) -> list[Record]:
    """All containers, oldest first; one in the middle of being made or removed is passed over."""
    recover(store)
    store.db.ensure(_SCHEMA)
    with store.db.transaction(write=False) as connection:
        names = dict(connection.execute("SELECT id, name FROM container_name").fetchall())
    found = []
    for home in store.directory("containers").iterdir():
        record = read_record(home)
        if record is not None:
            found.append(evolve(record, name=names.get(record.id, record.name)))
    return sorted(found, key=lambda record: record.created_at)


def find(store: Store, name_or_id: str) -> Record:
    """The container of that name, id, or unambiguous beginning of an id.

    Raises:
        ContainerNotFound: There is none, or more than one.
    """
    there = records(store)
    found = [r for r in there if name_or_id in (r.id, r.name)]
    if not found and len(name_or_id) >= 4:
        found = [r for r in there if r.id.startswith(name_or_id)]
    if len(found) != 1:
        what = "no container" if not found else f"{len(found)} containers that match"
        raise ContainerNotFound(f"{what} {name_or_id!r} in {store.path}")
    return found[0]


def reader(home: Path, record: Record) -> Callable[[str], bytes | None]:
    """Reads files of a container's root, with its changes."""
    return _reader(Snapshot(home, RootfsPlan.from_wire(record.rootfs)).tree())


def _reader(tree: TreeView) -> Callable[[str], bytes | None]:
    def read(path: str) -> bytes | None:
        try:
            return tree.read_bytes(path)
        except OSError:
            return None

    return read


def wait_for_end(home: Path, timeout: float | None) -> bool:
    """Wait until a container has ended and that is written down; False if that took too long."""
    deadline = None if timeout is None else time.monotonic() + timeout

    def left() -> float | None:
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    control = open_control(home)
    if control is not None:
        with control:  # its monitor tells, or goes
            control.settimeout(left())
            try:
                await_end(control)
            except (TimeoutError, BlockingIOError):  # the latter where no time is left
                return False
    state = read_state(home)
    while read_exit(home) is None and state is not None and state.alive:
        if deadline is not None and time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)  # an orphan: its monitor was killed
    return True


@contextlib.contextmanager
def changes(home: Path) -> Iterator[Callable[[float], None]]:
    """Give a function that waits for a change of what is written down of a container.

    It returns at the first change since the last call or the beginning, at the latest after the
    seconds that it is given.

    Raises:
        ContainerStateError: The container is gone.
    """
    try:
        watch = inotify.watch(str(home), inotify.MOVED_TO)
    except FileNotFoundError as error:
        raise ContainerStateError(f"container {home.name[:12]} is gone") from error
    waiter = select.poll()
    waiter.register(watch, select.POLLIN)

    def wait(seconds: float) -> None:
        waiter.poll(seconds * 1000)
        with contextlib.suppress(BlockingIOError):
            while os.read(watch, 1 << 12):
                pass

    try:
        yield wait
    finally:
        os.close(watch)


def delete(store: Store, home: Path, container_id: str, timeout: float) -> None:
    """End a container and remove all of it, with its monitor's help if it has one."""
    control = open_control(home)
    if control is not None:
        with control, contextlib.suppress(TimeoutError):
            request_deletion(control, timeout)
    there = read_record(home)
    if not _end(home, timeout):
        raise ContainerStateError(
            f"container {container_id[:12]} did not go within {timeout} seconds",
            remedy="a process of it may hang in the kernel; try again later",
        )
    if there is not None:  # else its monitor has removed it, and said so
        store.record("container", "destroy", there.id, there.event_attributes())
    forget(store, container_id)


def _end(home: Path, timeout: float) -> bool:
    """Finish a container whose monitor has gone or is about to; False if that took too long.

    A monitor that ends, or is killed, holds its lock a moment longer than its sockets.
    """
    deadline = time.monotonic() + timeout
    while home.exists() and not finish(home, timeout=timeout):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS / 10)
    return True


def recover(store: Store) -> None:
    """Do what was left undone by programs and monitors that were killed, or by a reboot.

    Done once for each handle of a store: what attached containers left is removed; detached ones
    that run get a new monitor, others are started again if their policy says so.
    """
    if store in _recovered:
        return
    _recovered.add(store)
    from pycontainer.containers._recovery import revive  # it starts containers, and so needs this

    for home in store.directory("containers").iterdir():
        with contextlib.suppress(FileNotFoundError):
            young = time.time() - home.stat().st_mtime < _YOUNG_SECONDS
            record = read_record(home)
            thaw_after_a_kill(home)
            if is_watched(home):
                continue
            if (
                record is not None
                and record.detached
                and (record.kept or read_state(home) is not None)
            ):
                revive(store, home, record)
            elif not young and not _is_owned(home) and finish(home):
                forget(store, home.name)
    _networking.recover(store)


def own(home: Path) -> int:
    """Let a container that is attached but does not run yet live as long as the descriptor given back."""
    fd = os.open(home / _OWNER, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _is_owned(home: Path) -> bool:
    try:
        fd = os.open(home / _OWNER, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)
