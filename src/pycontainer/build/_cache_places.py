"""Build caches that are elsewhere: in a directory, in a registry, in the image itself.

A cache is an OCI artifact: a manifest whose layers are those that steps made, and whose config says which
keys they are known by. In a registry it is a tag like any other; in a directory it is an image layout. An
image may also carry the keys of its own layers, in its config; then it is its own cache.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from attrs import field, frozen
from typing_extensions import override

from pycontainer.build._cache_records import CONFIG_TYPE, Record, Records
from pycontainer.content import BlobDir, VerifiedReader, exclusive
from pycontainer.errors import BuildError, SpecError
from pycontainer.oci import (
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    Reference,
    media_types,
    parse_manifest,
)
from pycontainer.registry import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from pycontainer.content import Readable, Store

__all__ = ["CachePlace", "Found", "InlineCache", "LocalCache", "RegistryCache"]

_LAYOUT_FILE: Final = "oci-layout"
_LOCK_FILE: Final = ".lock"
_INDEX_FILE: Final = "index.json"
_LAYOUT_MARK: Final = b'{"imageLayoutVersion":"1.0.0"}'
_CHUNK: Final = 1 << 20
_TIMEOUT: Final = 30.0


class Found(ABC):
    """A cache that was found: its records, and where its layers come from."""

    records: Records

    @abstractmethod
    def open(self, layer: Descriptor) -> AbstractContextManager[Readable]:
        """Begin to read a layer; whoever reads verifies it."""


class CachePlace(ABC):
    """Where a build cache can be, beside the store."""

    @abstractmethod
    def read(self) -> AbstractContextManager[Found | None]:
        """Look for a cache there; None if there is none.

        Raises:
            RegistryError: The registry cannot be reached or refuses.
            ContentError: What is there is damaged.
            SpecError: Likewise.
        """

    @abstractmethod
    def write(self, store: Store, records: Sequence[Record]) -> None:
        """Put a cache there, in the place of the former.

        Raises:
            BuildError: It cannot be written.
            RegistryError: The registry cannot be reached or refuses.
        """


# --- a directory ---------------------------------------------------------------------------------


@frozen
class LocalCache(CachePlace):
    """A cache in a directory, such as one that a CI system keeps from run to run.

    It is an image layout (OCI image-spec, image-layout.md). Each build that writes it replaces what was
    there, so it holds no more than the last build needed.

    Attributes:
        path: The directory; made if it is not there.
    """

    path: Path = field(converter=Path)

    @override
    @contextmanager
    def read(self) -> Iterator[Found | None]:
        yield self._found()

    def _found(self) -> _FoundInDirectory | None:
        blobs = BlobDir(self.path)
        try:
            index = Index.parse(
                (self.path / _INDEX_FILE).read_bytes(), media_type=media_types.OCI_INDEX
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BuildError(f"cannot read the cache {self.path}: {error.strerror}") from error
        if not index.manifests:
            return None
        manifest = Manifest.parse(blobs.read_bytes(index.manifests[0]))
        if manifest.config.media_type != CONFIG_TYPE:
            raise SpecError(f"{self.path} holds images and no build cache")
        return _FoundInDirectory(blobs, manifest, Records.parse(blobs.read_bytes(manifest.config)))

    @override
    def write(self, store: Store, records: Sequence[Record]) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = {entry.name for entry in self.path.iterdir()}
            if names and not names & {
                _LAYOUT_FILE,
                _LOCK_FILE,
            }:  # the latter: another writes the first
                raise BuildError(
                    f"{self.path} is there and no build cache",
                    remedy="give a new or empty directory",
                )
            with exclusive(self.path / _LOCK_FILE):
                self._replace(store, records)
        except OSError as error:
            raise BuildError(f"cannot write the cache {self.path}: {error.strerror}") from error

    def _replace(self, store: Store, records: Sequence[Record]) -> None:
        blobs = BlobDir(self.path)
        config, manifest = _documents(records)
        for layer in manifest.layers:
            if not blobs.exists(layer.digest):
                with store.blobs.reader(layer) as reader, blobs.writer(layer) as writer:
                    while data := reader.read(_CHUNK):
                        writer.write(data)
                    writer.commit()
        for data in (config, manifest.encode()):
            with blobs.writer() as writer:
                writer.write(data)
                writer.commit()
        index = Index(manifests=(manifest.descriptor(),))
        for name, data in ((_LAYOUT_FILE, _LAYOUT_MARK), (_INDEX_FILE, index.encode())):
            temporary = self.path / f".{name}"
            temporary.write_bytes(data)
            temporary.rename(self.path / name)
        kept = {manifest.digest, manifest.config.digest, *(each.digest for each in manifest.layers)}
        for digest in list(blobs.digests()):
            if digest not in kept:
                blobs.delete(digest)
        blobs.sweep()

    def __str__(self) -> str:
        return str(self.path)


@frozen
class _FoundInDirectory(Found):
    blobs: BlobDir
    manifest: Manifest
    records: Records

    @override
    def open(self, layer: Descriptor) -> AbstractContextManager[Readable]:
        return self.blobs.open(layer.digest)


# --- a registry ----------------------------------------------------------------------------------


def _reference(name: Reference | str) -> Reference:
    return Reference.parse(name) if isinstance(name, str) else name


@frozen
class RegistryCache(CachePlace):
    """A cache in a registry.

    Attributes:
        reference: Its name, such as ``registry.local/app:cache``; to read from, also that of an image
            that was built with `InlineCache`.
        insecure: Whether plain HTTP may be spoken; None: only to this machine.
        timeout: Seconds for a connection to come up, and for each wait for bytes.
    """

    reference: Reference = field(converter=_reference)
    insecure: bool | None = None
    timeout: float = _TIMEOUT

    @override
    @contextmanager
    def read(self) -> Iterator[Found | None]:
        with self._client() as client:
            yield self._found(client)

    def _found(self, client: Client) -> _FoundInRegistry | None:
        repository = self.reference.repository
        fetched = client.get_manifest(repository, self.reference.target)
        manifest = parse_manifest(fetched.data, fetched.media_type or None)
        if isinstance(manifest, Index):
            chosen = manifest.select(Platform.current())
            fetched = client.get_manifest(repository, str(chosen.digest))
            manifest = Manifest.parse(fetched.data, media_type=chosen.media_type)
        with client.open_blob(repository, manifest.config) as stream:
            data = VerifiedReader(stream, manifest.config).read()
        if manifest.config.media_type == CONFIG_TYPE:
            records = Records.parse(data)
        else:
            records = Records.of_image(manifest, ImageConfig.parse(data))
        return _FoundInRegistry(client, repository, records) if records.by_key else None

    @override
    def write(self, store: Store, records: Sequence[Record]) -> None:
        config, manifest = _documents(records)
        repository = self.reference.repository
        with self._client() as client:
            for layer in manifest.layers:
                client.push_blob(repository, layer, partial(store.blobs.open, layer.digest))
            client.push_blob(repository, manifest.config, lambda: io.BytesIO(config))
            client.put_manifest(
                repository, self.reference.target, manifest.encode(), manifest.media_type
            )

    def _client(self) -> Client:
        return Client(self.reference.registry, insecure=self.insecure, timeout=self.timeout)

    def __str__(self) -> str:
        return self.reference.familiar


@frozen
class _FoundInRegistry(Found):
    client: Client
    repository: str
    records: Records

    @override
    def open(self, layer: Descriptor) -> AbstractContextManager[Readable]:
        return self.client.open_blob(self.repository, layer)


# --- the image -----------------------------------------------------------------------------------


@frozen
class InlineCache:
    """A cache in the image that is built: its config then tells by which keys its layers are known.

    Of stages that are only copied from it holds nothing. Its image has another digest than one without.
    """

    name: Literal["inline"] = field(default="inline", init=False)

    def __str__(self) -> str:
        return self.name


def _documents(records: Sequence[Record]) -> tuple[bytes, Manifest]:
    config = Records.encode(records)
    layers = {each.layer.descriptor.digest: each.layer.descriptor for each in records if each.layer}
    descriptor = Descriptor(CONFIG_TYPE, Digest.of(config), len(config))
    manifest = Manifest(config=descriptor, layers=tuple(layers[key] for key in sorted(layers)))
    return config, manifest
