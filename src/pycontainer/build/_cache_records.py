"""What a build cache says: which layer a step made, by its keys; as a document that can travel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from pycontainer.build._graph import Layer, canonical
from pycontainer.errors import SpecError
from pycontainer.oci import Descriptor, Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pycontainer.oci import ImageConfig, Manifest

__all__ = ["CONFIG_TYPE", "INLINE", "Record", "Records"]

CONFIG_TYPE: Final = "application/vnd.pycontainer.buildcache.config.v1+json"
INLINE: Final = "pycontainer.buildcache.v1"
"""The member of an image's config that names the keys of its layers."""


@frozen
class Record:
    """What a step made.

    Attributes:
        key: What it is known by.
        title: The step.
        layer: The layer; None where no file changed.
    """

    key: Digest
    title: str
    layer: Layer | None


@frozen
class Records:
    """The records of one cache, by their keys."""

    by_key: Mapping[Digest, Record]

    @staticmethod
    def encode(records: Iterable[Record]) -> bytes:
        """The document; the same records give the same bytes."""
        found = [
            {
                "key": each.key,
                "title": each.title,
                "layer": each.layer
                and {**each.layer.descriptor.to_json(), "diffId": each.layer.diff_id},
            }
            for each in sorted(records, key=lambda each: each.key)
        ]
        return canonical({"records": found})

    @classmethod
    def parse(cls, data: bytes) -> Records:
        """Read the document.

        Raises:
            SpecError: It is damaged.
        """
        try:
            return cls._of(
                (each["key"], each["title"], each["layer"] and _layer(each["layer"]))
                for each in json.loads(data)["records"]
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SpecError(f"not the document of a build cache: {error}") from error

    @classmethod
    def of_image(cls, manifest: Manifest, config: ImageConfig) -> Records:
        """What an image says of its own layers; nothing if it says nothing.

        Raises:
            SpecError: It is damaged.
        """
        said: Any = config.extra.get(INLINE, ())
        try:
            layers = [
                Layer(descriptor, diff_id)
                for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
            ]
            return cls._of(
                (key, title, None if number is None else layers[number])
                for key, title, number in said
            )
        except (ValueError, TypeError, IndexError) as error:
            raise SpecError(f"the image's build cache is damaged: {error}", path=INLINE) from error

    @staticmethod
    def inline(records: Iterable[Record], layers: Iterable[Layer]) -> list[list[object]]:
        """What an image of these layers says in its config."""
        numbers = {layer: number for number, layer in enumerate(layers)}
        return [
            [str(each.key), each.title, None if each.layer is None else numbers[each.layer]]
            for each in sorted(records, key=lambda each: each.key)
            if each.layer is None or each.layer in numbers
        ]

    @classmethod
    def _of(cls, found: Iterable[tuple[str, str, Layer | None]]) -> Records:
        records = [Record(Digest.parse(key), str(title), layer) for key, title, layer in found]
        return cls({each.key: each for each in records})


def _layer(value: Mapping[str, object]) -> Layer:
    descriptor = Descriptor(
        str(value["mediaType"]), Digest.parse(str(value["digest"])), int(str(value["size"]))
    )
    return Layer(descriptor, Digest.parse(str(value["diffId"])))
