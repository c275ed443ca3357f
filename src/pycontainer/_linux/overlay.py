"""Overlay mounts of many layers (Documentation/filesystems/overlayfs.rst)."""

from __future__ import annotations

import errno
import os

from pycontainer._linux import erofs, mount

__all__ = ["MAX_LOWERS", "clear_work", "detached", "mount_at"]

MAX_LOWERS = 500
"""OVL_MAX_STACK of the kernel: with more lower directories the mount is refused."""

_BY_DESCRIPTOR = "/proc/self/fd/"
_PAGE = 4096  # mount(2) cuts its options off here without a word


def detached(
    lowers: list[str],
    upper: str | None = None,
    work: str | None = None,
    *,
    userxattr: bool = False,
    volatile: bool = False,
) -> int:
    """Make a detached overlay mount and return its descriptor.

    Args:
        lowers: Lower directories and EROFS images, the topmost first; at most `MAX_LOWERS`.
        upper: Where changes go; None makes the mount read-only.
        work: An empty directory beside `upper` on the same file system.
        userxattr: Keep overlay's marks in ``user.overlay.*``, as mounts in a user namespace must.
        volatile: Do not sync the upper; after a crash of the machine it is worthless.

    Raises:
        OSError: ENOSYS or EINVAL where the kernel has no fsopen(2) or no ``lowerdir+`` (before
            6.8), or takes no detached mounts as lowers (before 6.15, with images): use `mount_at`
            there. Else what the kernel found wrong.
    """
    images: dict[str, int] = {}  # mounted here, for this overlay
    try:
        places = [_place(lower, images) for lower in lowers]
        return _create(places, upper, work, userxattr=userxattr, volatile=volatile)
    finally:
        for fd in images.values():  # the overlay holds clones of these mounts
            os.close(fd)


def _place(lower: str, images: dict[str, int]) -> str:
    if not lower.endswith(erofs.SUFFIX):
        return lower
    fd = erofs.kept(lower)
    if fd is None:
        fd = images[lower] = erofs.detached(lower)
    return f"{_BY_DESCRIPTOR}{fd}"


def _create(
    lowers: list[str], upper: str | None, work: str | None, *, userxattr: bool, volatile: bool
) -> int:
    context = mount.fsopen("overlay")
    try:
        if len(lowers) == 1 and len(os.fsencode(lowers[0])) < 256:
            # A colon would split the name and a backslash quote, so both are escaped.
            mount.configure(context, "lowerdir", _escape(lowers[0]))
        else:
            for lower in lowers:
                mount.configure(context, "lowerdir+", lower)
        if upper is not None and work is not None:
            mount.configure(context, "upperdir", upper)
            mount.configure(context, "workdir", work)
            if volatile:
                mount.configure(context, "volatile")
        if userxattr:
            mount.configure(context, "userxattr")
        else:
            # Some kernels have these on: an upper then does not say by itself what has changed.
            mount.configure(context, "redirect_dir", "off")
            mount.configure(context, "metacopy", "off")
        # xino=on, which would show files of several file systems as of one device, is not for us: with
        # it the kernel marks all new directories opaque, and layers would differ from other machines'.
        return mount.create(context, mount.RDONLY if upper is None else 0)
    finally:
        os.close(context)


def mount_at(
    target: str,
    lowers: list[str],
    upper: str | None = None,
    work: str | None = None,
    *,
    userxattr: bool = False,
    volatile: bool = False,
) -> None:
    """Mount an overlay at `target`, through mount(2) where the kernel lacks the newer calls.

    Args: as for `detached`.
    """
    try:
        tree = detached(lowers, upper, work, userxattr=userxattr, volatile=volatile)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL) or len(lowers) > MAX_LOWERS:
            raise
        if not any(lower.endswith(erofs.SUFFIX) for lower in lowers):
            _mount_classic(target, lowers, upper, work, userxattr=userxattr, volatile=volatile)
            return
        tree = _over_attached(target, lowers, upper, work, volatile=volatile)
    try:
        mount.attach(tree, target)
    finally:
        os.close(tree)


def _over_attached(
    target: str, lowers: list[str], upper: str | None, work: str | None, *, volatile: bool
) -> int:
    """Make an overlay whose images are mounted, one on top of another, at `target` meanwhile."""
    images: dict[str, int] = {}
    try:
        for lower in lowers:
            if lower.endswith(erofs.SUFFIX):
                tree = erofs.detached(lower)
                try:
                    mount.attach(tree, target)
                except OSError:
                    os.close(tree)
                    raise
                images[lower] = tree
        places = [f"{_BY_DESCRIPTOR}{images[x]}" if x in images else x for x in lowers]
        return _create(places, upper, work, userxattr=False, volatile=volatile)
    finally:
        for fd in images.values():
            os.close(fd)
            mount.unmount(target)


def _mount_classic(
    target: str,
    lowers: list[str],
    upper: str | None,
    work: str | None,
    *,
    userxattr: bool,
    volatile: bool,
) -> None:
    """mount(2) takes one page of options: name each lower by its descriptor, relative to /proc/self/fd."""
    target = os.path.abspath(target)
    opened = [os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for lower in lowers]
    back = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        options = ["lowerdir=" + ":".join(map(str, opened))]
        if upper is not None and work is not None:
            options += [f"upperdir={_escape(upper)}", f"workdir={_escape(work)}"]
            if volatile:
                options.append("volatile")
        options += ["userxattr"] if userxattr else ["redirect_dir=off", "metacopy=off"]
        data = os.fsencode(",".join(options))
        if len(data) >= _PAGE:
            raise OSError(errno.E2BIG, f"overlay options of {len(data)} bytes", target)
        os.chdir("/proc/self/fd")
        mount.mount("overlay", target, "overlay", mount.MS_RDONLY if upper is None else 0, data)
    finally:
        os.fchdir(back)
        for fd in (*opened, back):
            os.close(fd)


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def clear_work(work: str) -> None:
    """Remove what a volatile overlay leaves in its work directory, as far as it is the usual.

    That is one directory in another in another, of which the kernel lets nobody read the first; to look
    into each, as removing any tree does, takes four times as long.
    """
    try:
        os.unlink(f"{work}/work/incompat/volatile/dirty")
        for name in ("work/incompat/volatile", "work/incompat", "work"):
            os.rmdir(f"{work}/{name}")
    except OSError:  # whoever removes the tree sees what there is
        pass
