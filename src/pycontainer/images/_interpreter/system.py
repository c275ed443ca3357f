"""What a root file system needs besides programs: directories, users, names, certificates."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pycontainer.images._interpreter.tree import FileTree

__all__ = ["add_certificates", "add_locale", "add_skeleton"]

_DIRECTORIES: Final = {
    "/bin": 0o755,
    "/dev": 0o755,
    "/etc": 0o755,
    "/home": 0o755,
    "/mnt": 0o755,
    "/opt": 0o755,
    "/proc": 0o555,
    "/root": 0o755,  # others must pass where the interpreter itself is below it
    "/run": 0o755,
    "/sbin": 0o755,
    "/srv": 0o755,
    "/sys": 0o555,
    "/tmp": 0o1777,  # noqa: S108  (of the image)
    "/usr": 0o755,
    "/usr/bin": 0o755,
    "/usr/lib": 0o755,
    "/usr/local": 0o755,
    "/usr/local/bin": 0o755,
    "/usr/sbin": 0o755,
    "/var": 0o755,
    "/var/tmp": 0o1777,  # noqa: S108
}
_MERGED: Final = (
    "/bin",
    "/lib",
    "/lib64",
    "/sbin",
)  # symlinks below /usr, where the host has it so
_FILES: Final = {
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "/etc/hostname": "localhost\n",
    "/etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
    "services: files\nprotocols: files\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "/etc/resolv.conf": "",
}
_BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"
_BUNDLES: Final = (
    _BUNDLE,  # Debian, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)
_LOCALES: Final = ("/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8")


def add_skeleton(tree: FileTree) -> None:
    """Put in the directories and small files that programs expect everywhere.

    Those that the tree has already, a symlink such as ``/bin`` perhaps, stay.
    """
    for path in _MERGED:
        if path not in tree and Path(path).is_symlink():
            tree.add_link(path, os.readlink(path))
    for path, mode in _DIRECTORIES.items():
        if path not in tree or mode != 0o755:
            tree.add_directory(path, mode)
    for path, text in _FILES.items():
        tree.add_file(path, text.encode())
    version = ".".join(map(str, sys.version_info[:3]))
    release = {"ID": "pycontainer", "NAME": "Python", "VERSION_ID": version}
    release["PRETTY_NAME"] = f"Python {version}"
    lines = [f'{key}="{value}"\n' for key, value in release.items()]
    tree.add_file("/etc/os-release", "".join(lines).encode())
    tree.add_link("/etc/mtab", "/proc/mounts")


def add_certificates(tree: FileTree) -> None:
    """Put in the authorities that this machine trusts, where the interpreter's OpenSSL looks."""
    try:
        import ssl
    except ImportError:  # an interpreter without it
        return
    paths = ssl.get_default_verify_paths()
    bundle = next((p for p in (paths.cafile, *_BUNDLES) if p and Path(p).is_file()), None)
    if bundle is None:
        return
    tree.add_file(_BUNDLE, Path(bundle).read_bytes())
    if paths.openssl_cafile != _BUNDLE:
        tree.add_link(paths.openssl_cafile, _BUNDLE)


def add_locale(tree: FileTree) -> None:
    """Put in the locale C.UTF-8 where libc does not have it built in."""
    for directory in map(Path, _LOCALES):
        if directory.is_dir():
            for file in sorted(directory.rglob("*")):
                if file.is_file():
                    tree.add_host_file(file)
