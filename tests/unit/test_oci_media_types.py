"""Media types of layers tell how these are compressed."""

from __future__ import annotations

import pytest

from pycontainer.oci import Compression, media_types


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        (media_types.OCI_LAYER, Compression.NONE),
        (media_types.OCI_LAYER_GZIP, Compression.GZIP),
        (media_types.OCI_LAYER_ZSTD, Compression.ZSTD),
        (media_types.DOCKER_LAYER, Compression.NONE),
        (media_types.DOCKER_LAYER_GZIP, Compression.GZIP),
        (media_types.DOCKER_LAYER_ZSTD, Compression.ZSTD),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression.GZIP),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression.ZSTD),
        (f"{media_types.OCI_LAYER_GZIP}; x=y", Compression.GZIP),
        (media_types.OCI_CONFIG, None),
        ("", None),
    ],
)
def test_compression_of_a_media_type(media_type: str, compression: Compression | None) -> None:
    assert media_types.compression_of(media_type) is compression


@pytest.mark.parametrize("compression", Compression)
def test_our_own_layers_say_how_they_are_compressed(compression: Compression) -> None:
    assert media_types.compression_of(media_types.oci_layer(compression)) is compression
