"""The files of a container as a whole: what it has changed, as an image, as a tar."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from pycontainer.containers._changes import Change, export, list_changes
from pycontainer.containers._commit import commit
from pycontainer.containers._restorable import Restorable

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from pycontainer.images import Image
    from pycontainer.oci import Reference

__all__ = ["Contents"]


class Contents(Restorable):
    """The part of `Container` that takes its files as a whole."""

    def diff(self) -> tuple[Change, ...]:
        """What it has changed of its image's files, by path.

        Mounts and what the runtime made to mount on do not count. It stands still meanwhile.

        Raises:
            LayerError: A file cannot be read.
            ContainerStateError: It is gone.
        """
        return list_changes(self._directory, self._plan)

    def commit(
        self,
        *,
        tag: str | Reference | None = None,
        changes: Sequence[str] = (),
        author: str = "",
        message: str = "",
        pause: bool = True,
    ) -> Image:
        """Make an image of its image and what it has changed.

        The image's config says what this container was started with: environment, command, user,
        working directory, labels. The content of volumes and other mounts is left out.

        Args:
            tag: The image's name; without one it is kept unnamed.
            changes: Further changes of the config as a Dockerfile writes them, such as
                ``CMD ["serve"]``: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
                STOPSIGNAL, USER, VOLUME, WORKDIR.
            author: Who made it.
            message: A remark in the image's history.
            pause: Whether it stands still while its files are read, so that they fit each other.

        Raises:
            ContainerError: A change is none.
            LayerError: A file changed while it was read.
            ContainerStateError: It is gone.
        """
        return commit(
            self._store,
            self._directory,
            self._record,
            tag=tag,
            changes=changes,
            author=author,
            message=message,
            pause=pause,
        )

    def export(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        """Write all its files as a tar, without what is mounted in it. It stands still meanwhile.

        Args:
            target: Path of the tar, or a binary file to write it to.

        Raises:
            ContainerError: The tar cannot be written.
            LayerError: A file cannot be read.
            ContainerStateError: It is gone.
        """
        export(self._directory, self._plan, target)
