"""Where a build's files come from: nothing, an image, a directory of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen
from typing_extensions import override

from pycontainer.build._graph import Directory, Layer, Material, Source, State
from pycontainer.errors import BuildError
from pycontainer.images import Image, find_image
from pycontainer.oci import ImageConfig, Platform, Reference, media_types

if TYPE_CHECKING:
    from pathlib import Path

    from pycontainer.build._work import Work
    from pycontainer.oci import ContainerConfig, Descriptor

__all__ = [
    "ImageSource",
    "LocalSource",
    "ScratchSource",
    "StoredImageSource",
    "inherited",
]

_KEPT_EXTRA: Final = ("os.version", "os.features")
_OF_ONE_CONTAINER: Final = (
    "Hostname",
    "Domainname",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Image",
    "NetworkDisabled",
    "MacAddress",
)
"""What old Dockers wrote into configs about the container that the image was committed from."""


@frozen
class ScratchSource(Source):
    """The empty file system.

    Attributes:
        platform: What the image is for; None for what the build is for.
    """

    platform: Platform | None = None

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return "FROM scratch"

    @override
    def load(self, work: Work) -> State:
        """No layers, an empty config."""
        platform = self.platform or work.platform or Platform.current()
        return State(
            config=ImageConfig(
                os=platform.os, architecture=platform.architecture, variant=platform.variant
            )
        )


@frozen
class ImageSource(Source):
    """An image, of the store or else pulled into it.

    Attributes:
        reference: Its name.
        platform: Which of several to pull; None for what the build is for.
    """

    reference: Reference
    platform: Platform | None = None

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return f"FROM {self.reference.familiar}"

    def load(self, work: Work) -> State:
        """The image's layers and config.

        Raises:
            RegistryError: It is not in the store and cannot be pulled.
        """
        image = find_image(self.reference, self.platform or work.platform, work.store)
        return state_of(image, work)


@frozen
class StoredImageSource(Source):
    """An image that is at hand.

    Attributes:
        image: The image.
        chosen: Whether its platform was asked for, whatever the build is for.
    """

    image: Image = field(repr=lambda image: str(image.digest))
    chosen: bool = False

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        reference = self.image.reference
        return f"FROM {self.image.digest if reference is None else reference.familiar}"

    def definition(self) -> object:
        """Its digest."""
        return str(self.image.digest)

    def load(self, work: Work) -> State:
        """The image's layers and config.

        Raises:
            BuildError: It is in another store, or for another platform.
        """
        if self.image.store.path != work.store.path:
            raise BuildError(
                f"{self.title}: the image is in the store {self.image.store.path}, the build works "
                f"in {work.store.path}",
                remedy="build with store=image.store, or save the image and load it there",
            )
        wanted = None if self.chosen else work.platform
        if wanted is not None and not self.image.platform.matches(wanted):
            raise BuildError(
                f"{self.title}: the image is for {self.image.platform}, the build for {wanted}",
                remedy="begin with a name, which may lead to images for several platforms",
            )
        return state_of(self.image, work)


def state_of(image: Image, work: Work) -> State:
    """What a build continues from when it begins with an image.

    Raises:
        BuildError: A layer's blob is not stored.
    """
    layers = []
    for descriptor, diff_id in zip(image.layers, image.diff_ids, strict=True):
        if not work.store.blobs.exists(descriptor.digest):
            raise BuildError(
                f"FROM {image.digest}: layer {descriptor.digest} is not in the store",
                remedy="pull or load the image again",
            )
        layers.append(Layer(_as_oci(descriptor), diff_id))
    config = image.config
    extra = {key: config.extra[key] for key in _KEPT_EXTRA if key in config.extra}
    config = config.evolve(config=inherited(config.config), extra=extra)
    name = image.digest if image.reference is None else image.reference.familiar
    material = Material(f"pkg:docker/{name}", image.digest.algorithm, image.digest.hex)
    return State(tuple(layers), config, material=material)


def inherited(config: ContainerConfig, *, triggers: bool = False) -> ContainerConfig:
    """Without the past of the base image, and without its triggers, unless they are to be seen."""
    extra = {key: value for key, value in config.extra.items() if key not in _OF_ONE_CONTAINER}
    return evolve(config, on_build=config.on_build if triggers else (), extra=extra)


def _as_oci(descriptor: Descriptor) -> Descriptor:
    """The layer under OCI's media type: a manifest may not mix those of OCI and Docker."""
    compression = media_types.compression_of(descriptor.media_type)
    assert compression is not None, f"{descriptor.media_type} is no layer"
    return evolve(descriptor, media_type=media_types.oci_layer(compression))


@frozen
class LocalSource(Source):
    """A directory of this machine.

    Attributes:
        path: The directory; None for the context that the build is given.
        ignore: Patterns of what is not to be seen of it.
    """

    path: Path | None = None
    ignore: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The directory, as a build's log names it."""
        return f"context {'' if self.path is None else self.path}".rstrip()

    def load(self, work: Work) -> Directory:
        """The directory.

        Raises:
            BuildError: It is not there.
        """
        path = work.context if self.path is None else self.path
        if not path.is_dir():
            raise BuildError(f"the context {path} is not a directory")
        return Directory(path.resolve(), self.ignore)
