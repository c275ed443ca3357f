"""A small image for tests: busybox with the few files that a root file system needs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pycontainer.content import Store
from pycontainer.images import Image

__all__ = ["busybox_image", "busybox_tree"]


def busybox_tree(root: Path) -> Path:
    """Make the file system at `root`; needs Debian's busybox-static (or another static one)."""
    program = shutil.which("busybox")
    if program is None or b"static" not in _kind(program):
        pytest.skip("needs a static busybox (apt-get install busybox-static)")
    for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "var"):
        (root / name).mkdir(parents=True)
    root.chmod(0o755)
    (root / "tmp").chmod(0o1777)
    shutil.copy(program, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
    return root


def busybox_image(store: Store, place: Path, tag: str = "busybox:test") -> Image:
    """Import that file system into a store."""
    return Image.import_rootfs(busybox_tree(place), tag=tag, store=store)


def _kind(program: str) -> bytes:
    """``static`` if the ELF file has no interpreter (PT_INTERP, type 3, elf(5))."""
    data = Path(program).resolve().read_bytes()[:4096]
    offset, size, count = (
        int.from_bytes(data[32:40], "little"),
        int.from_bytes(data[54:56], "little"),
        int.from_bytes(data[56:58], "little"),
    )
    types = {
        int.from_bytes(data[offset + i * size : offset + i * size + 4], "little")
        for i in range(count)
    }
    return b"dynamic" if 3 in types else b"static"
