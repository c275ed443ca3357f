"""The same image in the words of the other specification: OCI's, or Docker's schema 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pycontainer.errors import ImageError
from pycontainer.oci import Compression, Descriptor, Manifest, media_types

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Schema", "converted"]

Schema = Literal["oci", "docker"]

_DOCKER_LAYERS: Final[Mapping[Compression, str]] = {
    Compression.NONE: media_types.DOCKER_LAYER,
    Compression.GZIP: media_types.DOCKER_LAYER_GZIP,
}


def converted(manifest: Manifest, schema: Schema | None) -> Manifest:
    """A manifest of the same config and layers; those are the same bytes in both specifications.

    Args:
        manifest: An image's.
        schema: Whose words; None for those it has.

    Returns:
        The very manifest, with its digest, if it has them already.

    Raises:
        ImageError: Docker's schema 2 cannot say what the manifest says.
    """
    if schema not in (None, "oci", "docker"):
        raise ValueError(f"unknown schema {schema!r}: 'oci' or 'docker'")
    has = "docker" if manifest.media_type == media_types.DOCKER_MANIFEST else "oci"
    if schema is None or schema == has:
        return manifest
    if schema == "oci":
        layers = tuple(
            Descriptor(media_types.oci_layer(_compression(layer)), layer.digest, layer.size)
            for layer in manifest.layers
        )
        kinds = (media_types.OCI_MANIFEST, media_types.OCI_CONFIG)
    else:
        layers = tuple(map(_docker_layer, manifest.layers))
        kinds = (media_types.DOCKER_MANIFEST, media_types.DOCKER_CONFIG)
        if manifest.subject is not None or manifest.artifact_type is not None:
            raise ImageError(
                f"{manifest.digest} is an artifact, which Docker's schema 2 does not know"
            )
    config = Descriptor(kinds[1], manifest.config.digest, manifest.config.size)
    return Manifest(config=config, layers=layers, media_type=kinds[0])


def _docker_layer(layer: Descriptor) -> Descriptor:
    media_type = _DOCKER_LAYERS.get(_compression(layer))
    if media_type is None:
        raise ImageError(
            f"layer {layer.digest} is of type {layer.media_type!r}, which Docker's schema 2 does not "
            "know",
            remedy="push it as it is, or build it with gzip layers",
        )
    return Descriptor(media_type, layer.digest, layer.size)


def _compression(layer: Descriptor) -> Compression:
    found = media_types.compression_of(layer.media_type)
    if found is None or layer.urls:
        raise ImageError(
            f"layer {layer.digest} of type {layer.media_type!r} cannot be converted",
            remedy="push the image as it is",
        )
    return found
