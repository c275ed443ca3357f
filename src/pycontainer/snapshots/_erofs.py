"""Layers that are mounted instead of unpacked: where that works, whether it pays, and reading them."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pycontainer._linux import erofs, overlay
from pycontainer.errors import UnsupportedFeature
from pycontainer.layers import Entry, Kind, Ownership, index, unpack, verify_index, write_tar

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.content import Store

__all__ = ["LayerRoot", "check", "erofs_advantage", "erofs_refusal", "is_chosen"]

_log = logging.getLogger("pycontainer.snapshots")
_TIMEOUT: Final = 10.0
_SAMPLE_FILES: Final = 200
_ROUNDS: Final = 3
_MOST_CHECKED: Final = 4096
# Kernels before 6.15 take an image as the lower of an overlay only where it is attached.
_ATTACHED: Final = """
import sys; sys.path.insert(0, sys.argv[1])
from pycontainer._linux import mount, overlay, process
process.unshare(process.NAMESPACE_FLAGS["mount"])
mount.mount("none", "/", None, mount.MS_REC | mount.MS_PRIVATE)
overlay.mount_at(sys.argv[2], [sys.argv[3]], sys.argv[4], sys.argv[5])
"""

_lock = threading.Lock()
_refusals: dict[tuple[int, int], str] = {}
_advantages: dict[int, float] = {}
_checked: dict[tuple[int, int, int, int, int], None] = {}


def is_chosen(store: Store) -> bool:
    """Whether a store's next layer is to be indexed.

    Raises:
        UnsupportedFeature: It is to be by all means, and cannot.
    """
    if store.snapshotter == "overlay":
        return False
    reason = erofs_refusal(store)
    if store.snapshotter == "auto":
        return not reason and erofs_advantage(store) > 1
    if reason:
        raise UnsupportedFeature(
            f"the snapshotter erofs for {store.path}",
            reason,
            remedy="use snapshotter='overlay' or 'auto'; erofs takes a kernel of 6.12 or later, root "
            "of the machine, and a store on a disk file system",
        )
    return True


def erofs_refusal(store: Store) -> str:
    """Why indexed layers of a store cannot be mounted; empty if they can. Tried once a process."""
    key = (os.geteuid(), store.path.stat().st_dev)
    with _lock:
        if key not in _refusals:
            _refusals[key] = _try(store)
        return _refusals[key]


def erofs_advantage(store: Store) -> float:
    """How many times longer unpacking a small layer takes than indexing it; measured once a process.

    The store must be able to mount such layers.
    """
    key = store.path.stat().st_dev
    with _lock:
        if key not in _advantages:
            _advantages[key] = _measure(store)
            _log.info("indexing layers in %s is %.1f times as fast", store.path, _advantages[key])
        return _advantages[key]


def check(image: Path) -> None:
    """Make sure, once a process, that an index is what was written.

    Raises:
        LayerError: It is damaged, or not there.
    """
    try:
        status = image.stat()
    except FileNotFoundError:
        verify_index(image)  # says so
        raise
    key = (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    if key not in _checked:
        verify_index(image)
        if len(_checked) >= _MOST_CHECKED:
            _checked.clear()
        _checked[key] = None


class LayerRoot:
    """The root directory of a layer; an index stays mounted as long as this object is there.

    Attributes:
        path: The directory. Of an index it is a name of a descriptor: it can be followed, not looked at.

    Raises:
        OSError: The kernel refuses the mount.
    """

    def __init__(self, layer: Path) -> None:
        self.path = layer
        self._fd = -1
        if layer.suffix == erofs.SUFFIX:
            self._fd = erofs.detached(str(layer))
            self.path = Path(f"/proc/self/fd/{self._fd}")

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _try(store: Store) -> str:
    if sys.platform != "linux":
        return "it takes Linux"
    if Ownership.current() is not Ownership.ROOT:
        return "only root of the machine may mount images"
    with store.temporary("probe") as directory:
        image = directory / f"image{erofs.SUFFIX}"
        index(io.BytesIO(_sample(1)), image)
        upper, work, target = (directory / name for name in ("upper", "work", "target"))
        for place in (upper, work, target):
            place.mkdir()
        lowers, upper_and_work = [str(image)], (str(upper), str(work))
        try:
            os.close(erofs.detached(str(image)))
        except OSError as error:
            return f"the kernel does not mount EROFS from a file there ({error.strerror})"
        try:
            os.close(overlay.detached(lowers, *upper_and_work))
        except OSError:
            return _try_attached(target, lowers, upper_and_work)
        return ""


def _try_attached(target: Path, lowers: list[str], upper_and_work: tuple[str, str]) -> str:
    package_root = str(Path(__file__).resolve().parents[2])
    arguments = [package_root, str(target), *lowers, *upper_and_work]
    try:
        done = subprocess.run(  # noqa: S603  (our own interpreter and code)
            [sys.executable, "-I", "-S", "-c", _ATTACHED, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return (last or f"exit code {done.returncode}") if done.returncode else ""


def _measure(store: Store) -> float:
    tar = _sample(_SAMPLE_FILES)
    with store.temporary("probe") as directory:

        def unpacked(root: Path) -> None:
            root.mkdir()
            unpack(io.BytesIO(tar), root)

        def indexed(image: Path) -> None:
            index(io.BytesIO(tar), image)
            os.close(erofs.detached(str(image)))

        best = {}
        for name, work in (("root", unpacked), (f"image{erofs.SUFFIX}", indexed)):
            best[name] = min(
                _seconds(partial(work, directory / f"{i}{name}")) for i in range(_ROUNDS)
            )
        return best["root"] / best[f"image{erofs.SUFFIX}"]


def _seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _sample(files: int) -> bytes:
    content = bytes(4000)
    entries = [
        Entry(b"file%d" % i, Kind.FILE, size=len(content), content=lambda: iter((content,)))
        for i in range(files)
    ]
    return b"".join(write_tar(entries))
