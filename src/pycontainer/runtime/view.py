"""The files of a container that does not run, mounted for a while where nobody else sees them."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pycontainer.errors import ContainerError, SnapshotError, UnsupportedFeature
from pycontainer.runtime import _zygote
from pycontainer.runtime._inside import wire
from pycontainer.runtime.plan import compile_view

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pycontainer.oci.runtime import Mount
    from pycontainer.snapshots import RootfsPlan

__all__ = ["mounted_view"]

_SECONDS = 30.0


@contextmanager
def mounted_view(
    rootfs: RootfsPlan, directory: Path, mounts: Sequence[Mount] = ()
) -> Iterator[int]:
    """Mount a root file system as long as the block runs; gives a descriptor of its root directory.

    It is mounted in a namespace of its own, which goes with the descriptors: also when this program is
    killed.

    Args:
        rootfs: What to mount. Nothing else may have its writable layer mounted.
        directory: The container's own.
        mounts: Binds to mount in it.

    Raises:
        SnapshotError: The kernel refuses.
        UnsupportedFeature: This user may not mount.
    """
    (directory / "rootfs").mkdir(exist_ok=True)
    with _zygote.submit(compile_view(rootfs, directory, mounts), [], _SECONDS) as channel:
        fds = _receive(channel)
    try:
        yield fds[0]
    finally:
        for fd in fds:
            os.close(fd)


def _receive(channel: socket.socket) -> list[int]:
    try:
        data, fds, _, _ = socket.recv_fds(channel, 1 << 12, 2, socket.MSG_CMSG_CLOEXEC)
    except TimeoutError as error:
        raise ContainerError(f"the files were not mounted within {_SECONDS} seconds") from error
    if fds:
        return fds
    if not data:
        raise ContainerError("the process that was to mount the files was killed")
    _, step, code, text = wire.parse(data)
    message = f"cannot {step} of the container: {text}"
    if code in (errno.EPERM, errno.EACCES):
        raise UnsupportedFeature("a mount of the container's files", message)
    raise SnapshotError(message)
