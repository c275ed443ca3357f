"""Where a built image goes beside the store."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from attrs import field, frozen

from pycontainer.build._flatten import entries_below
from pycontainer.errors import BuildError, LayerError
from pycontainer.layers import Extractor, Ownership, write_tar
from pycontainer.snapshots import TreeView

if TYPE_CHECKING:
    from pycontainer.images import Image

__all__ = ["Output", "OutputFormat"]

OutputFormat = Literal[
    "oci-archive", "oci-layout", "docker-archive", "rootfs-tar", "rootfs-directory"
]
"""The image as a tar or directory of an OCI layout or as ``docker load`` reads it; or its files."""

_TYPES: Final[dict[str, OutputFormat]] = {
    "oci": "oci-archive",
    "docker": "docker-archive",
    "tar": "rootfs-tar",
    "local": "rootfs-directory",
}
"""What ``docker buildx build --output type=`` calls them."""


@frozen
class Output:
    """A file or directory that a build writes its result to.

    Attributes:
        format: ``oci-archive``, ``oci-layout`` or ``docker-archive`` of the image; ``rootfs-tar`` or
            ``rootfs-directory`` of its files alone.
        path: Where to. A file is replaced; a directory of files must be empty or missing.
    """

    format: OutputFormat
    path: Path = field(converter=Path)

    def __attrs_post_init__(self) -> None:
        if self.format not in get_args(OutputFormat):
            raise ValueError(f"unknown format {self.format!r}: {', '.join(get_args(OutputFormat))}")

    @classmethod
    def parse(cls, text: str) -> Output:
        """Read what users of buildx write: ``type=tar,dest=root.tar``, or a directory's path alone.

        Raises:
            BuildError: It says neither.
        """
        if "=" not in text:
            return cls("rootfs-directory", Path(text))
        values = dict(part.partition("=")[::2] for part in text.split(","))
        kind, place = values.pop("type", ""), values.pop("dest", "")
        as_tar = values.pop("tar", "true") == "true"
        if kind not in _TYPES or not place or values:
            raise BuildError(
                f"not an output: {text!r}",
                remedy=f"write type=TYPE,dest=PATH with TYPE one of {', '.join(_TYPES)}",
            )
        form = _TYPES[kind]
        return cls("oci-layout" if kind == "oci" and not as_tar else form, Path(place))

    def write(self, image: Image) -> None:
        """Write an image there.

        Raises:
            BuildError: It cannot be written.
            ImageError: Likewise.
        """
        if self.format == "rootfs-tar":
            self._write_tar(image)
        elif self.format == "rootfs-directory":
            self._write_directory(image)
        else:
            image.save(self.path, format=self.format)

    def _write_tar(self, image: Image) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(6)}")
        try:
            with temporary.open("wb") as file:
                for chunk in write_tar(entries_below(TreeView(image.unpack()), "/")):
                    file.write(chunk)
            temporary.replace(self.path)
        except OSError as error:
            raise BuildError(f"cannot write {self.path}: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _write_directory(self, image: Image) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise BuildError(
                    f"the directory {self.path} is not empty", remedy="give a new or empty one"
                )
        except OSError as error:
            raise BuildError(f"cannot write {self.path}: {error.strerror}") from error
        try:
            with Extractor(self.path, Ownership.current(), apply=True) as extractor:
                for entry in entries_below(TreeView(image.unpack()), "/"):
                    extractor.put(entry)
                extractor.finish()
        except LayerError as error:
            raise BuildError(f"cannot write {self.path}: {error.message}") from error
