"""Frozen values of the OCI specifications, and references: pure, and true to the bytes."""

from __future__ import annotations

from pycontainer.oci import media_types, runtime
from pycontainer.oci._config import ContainerConfig, Healthcheck, History, ImageConfig
from pycontainer.oci._descriptor import Descriptor
from pycontainer.oci._digest import Digest
from pycontainer.oci._manifest import Index, Manifest, parse_manifest
from pycontainer.oci._platform import Platform
from pycontainer.oci._reference import Reference
from pycontainer.oci.media_types import Compression

__all__ = [
    "Compression",
    "ContainerConfig",
    "Descriptor",
    "Digest",
    "Healthcheck",
    "History",
    "ImageConfig",
    "Index",
    "Manifest",
    "Platform",
    "Reference",
    "media_types",
    "parse_manifest",
    "runtime",
]
