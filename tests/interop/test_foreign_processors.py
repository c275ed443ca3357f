"""Commands for another processor, by an interpreter that is registered for the time of the test."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import pycontainer
from built_images import files_of
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.layers import Kind

pytestmark = [pytest.mark.root, pytest.mark.interop("qemu-aarch64-static", "unshare")]

_MAKE_FILE = bytes.fromhex(
    "600c8092"  # mov x0, #-100    AT_FDCWD
    "01010010"  # adr x1, name
    "224880d2"  # mov x2, #0x241   O_WRONLY | O_CREAT | O_TRUNC
    "833480d2"  # mov x3, #0644
    "080780d2"  # mov x8, #56      openat
    "010000d4"  # svc #0
    "000080d2"  # mov x0, #0
    "a80b80d2"  # mov x8, #93      exit
    "010000d4"  # svc #0
    "2f6d61646500"  # name: "/made"
)
_AT = 0x400000

_MISC = Path("/proc/sys/fs/binfmt_misc")
_REGISTER = (
    r":{name}:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    r":/usr/bin/qemu-aarch64-static:F"
)

_BUILD = """\
import sys
from pycontainer.build import Builder
from pycontainer.content import Store
with Store.open(sys.argv[1]) as store:
    Builder.from_dockerfile(context=sys.argv[2], store=store).build("made:1")
"""


def _program() -> bytes:
    """A static program of an arm64 machine (elf(5)) that makes the file /made."""
    size = 64 + 56 + len(_MAKE_FILE)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, _AT + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _AT, _AT, size, size, 0x1000)
    return ident + header + segment + _MAKE_FILE


def _context(store: Store, tmp_path: Path, platform: str) -> Path:
    """A context whose Dockerfile begins with an image for another processor."""
    root = tmp_path / "rootfs"
    root.mkdir()
    (root / "make").write_bytes(_program())
    (root / "make").chmod(0o755)
    Image.import_rootfs(root, tag="other:test", platform=platform, store=store)
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f'FROM --platform={platform} other:test\nRUN ["/make"]\n')
    return context


def _build(store: Store, context: Path, *, registered: bool) -> subprocess.CompletedProcess[str]:
    """Build in a mount namespace of its own; what is registered there goes with its last mount."""
    mount = f"mount -t binfmt_misc none {_MISC} || exit 77; "
    line = _REGISTER.format(name=f"pycontainer-{os.getpid()}")
    register = f"echo '{line}' > {_MISC}/register; "
    script = mount + (register if registered else "") + 'exec "$@"'
    source = str(Path(pycontainer.__file__).parents[1])
    words = [sys.executable, "-c", _BUILD, str(store.path), str(context)]
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", script, "sh", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": source},
    )
    if done.returncode == 77:
        pytest.skip(f"the kernel has no binfmt_misc: {done.stderr.strip()}")
    return done


def test_commands_run_by_an_interpreter(store: Store, tmp_path: Path) -> None:
    done = _build(store, _context(store, tmp_path, "linux/arm64"), registered=True)
    assert done.returncode == 0, done.stderr
    image = Image.get("made:1", store=store)
    assert str(image.platform) == "linux/arm64"
    assert files_of(image)["made"].kind is Kind.FILE


def test_without_an_interpreter_the_error_says_how(store: Store, tmp_path: Path) -> None:
    # Not the other test's processor: what that registers holds for the whole machine meanwhile.
    if any(_MISC.glob("qemu-riscv64*")):
        pytest.skip("this machine has an interpreter registered")
    done = _build(store, _context(store, tmp_path, "linux/riscv64"), registered=False)
    assert done.returncode != 0
    assert "the image is for linux/riscv64, this machine runs" in done.stderr
    assert "register one in binfmt_misc" in done.stderr
