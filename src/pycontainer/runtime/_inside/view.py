"""The third kind of process the zygote clones: it mounts a container's files and hands them over.

Nothing runs in them, and nothing of it shows on the host: the mounts are in a namespace of their own,
which lasts as long as somebody holds the descriptor that goes with them.
"""

from __future__ import annotations

import _socket
import os

from pycontainer._linux import process
from pycontainer.runtime._inside import init, wire

__all__ = ["main"]


def main(request: dict[str, object], owner: _socket.socket, _fds: list[int], host: int) -> None:
    """Mount, and send descriptors of the root directory and of the namespace.

    Args:
        request: ``rootfs``, ``mountpoint`` and ``mounts`` as in a container's plan.
        owner: The socket of who asked.
        host: A pidfd of the host program, of no use here.
    """
    if host >= 0:
        os.close(host)
    step = "enter a mount namespace"
    try:
        process.unshare(process.NAMESPACE_FLAGS["mount"])
        if request["id_maps"]:
            from pycontainer.runtime._inside import namespaces

            namespaces.make_id_maps(request["id_maps"])
        step = "mount the files"
        root, namespace = _mount(request)
    except OSError as error:
        wire.send(owner, "failed", step, error.errno or 0, str(error))
        return
    rights = root.to_bytes(4, "little") + namespace.to_bytes(4, "little")
    owner.sendmsg([b"v"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])


def _mount(request: dict[str, object]) -> tuple[int, int]:
    rootfs = request["rootfs"]
    assert isinstance(rootfs, dict)
    init.forget_volatile(rootfs)
    root = init.mount_files(request)
    return root, os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
