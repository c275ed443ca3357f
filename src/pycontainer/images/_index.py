"""One name for images of several platforms, and for what else belongs to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import evolve, field, frozen

from pycontainer.content import Store
from pycontainer.errors import ImageError, ImageNotFound
from pycontainer.images import _files, _names, _transfer
from pycontainer.images._image import Image
from pycontainer.images._progress import Progress, one_at_a_time
from pycontainer.oci import Descriptor, Digest, Index, Manifest, Platform, Reference, media_types
from pycontainer.registry import Client

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from pycontainer.registry import Credentials

__all__ = ["ImageIndex", "create_index"]

_ROOT: Final = "index"
_NO_PLATFORM: Final = "unknown"


@frozen(repr=False)
class ImageIndex:
    """An index in a store: the same image for several platforms, under one name.

    In the store the name also leads to an image, this machine's if there is one; the registry and
    saved files have the index under it.

    Attributes:
        store: Where it is.
        index: The document.
        reference: Its name; None if it has none.
    """

    store: Store = field(eq=False)
    index: Index
    reference: Reference | None = field(default=None, eq=False)

    def __repr__(self) -> str:
        name = "" if self.reference is None else f"{self.reference.familiar!r}, "
        return f"ImageIndex({name}{self.digest})"

    @property
    def descriptor(self) -> Descriptor:
        """Of the index."""
        return self.index.descriptor()

    @property
    def digest(self) -> Digest:
        """Digest of the index."""
        return self.index.digest

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """What there are images for."""
        return tuple(entry.platform for entry in self._images if entry.platform is not None)

    @property
    def _images(self) -> tuple[Descriptor, ...]:
        return tuple(
            entry
            for entry in self.index.manifests
            if entry.platform is not None and entry.platform.os != _NO_PLATFORM
        )

    def image(self, platform: str | Platform | None = None) -> Image:
        """The image for a platform.

        Args:
            platform: Which; None for this machine's.

        Raises:
            PlatformNotFound: There is none.
            ContentError: It is not in the store any more.
        """
        wanted = Platform.parse(platform) if isinstance(platform, str) else platform
        chosen = self.index.select(wanted or Platform.current())
        return Image._read(self.store, evolve(chosen, platform=None, annotations={}), None)  # noqa: SLF001

    def attestations(self, image: Image) -> tuple[Manifest, ...]:
        """Manifests that say something about one of the images, such as how it was built."""
        about = str(image.digest)
        return tuple(
            self._manifest(entry)
            for entry in self.index.manifests
            if entry.annotations.get("vnd.docker.reference.digest") == about
        )

    def _manifest(self, entry: Descriptor) -> Manifest:
        return Manifest.parse(self.store.blobs.read_bytes(entry), media_type=entry.media_type)

    # --- finding -----------------------------------------------------------------------------

    @classmethod
    def get(cls, name: str | Reference, *, store: Store | None = None) -> Self:
        """Find an index by the name it was built with.

        Raises:
            ImageNotFound: There is none of that name.
            InvalidReference: It cannot be a name.
        """
        store = store or Store.default()
        reference = Reference.parse(name) if isinstance(name, str) else name
        for root in store.roots(_ROOT):
            if root.name == str(reference):
                return cls._read(store, root.targets[0][1], reference)
        raise ImageNotFound(f"no index {reference.familiar} in {store.path}")

    @classmethod
    def list(cls, *, store: Store | None = None) -> tuple[Self, ...]:
        """All indexes of a store that have names, in their order."""
        store = store or Store.default()
        return tuple(
            cls._read(store, root.targets[0][1], Reference.parse(root.name))
            for root in store.roots(_ROOT)
            if not root.name.startswith("sha256:")
        )

    @classmethod
    def _read(cls, store: Store, digest: str, reference: Reference | None) -> Self:
        found = Digest.parse(digest)
        descriptor = Descriptor(media_types.OCI_INDEX, found, store.blobs.size(found))
        return cls(store, Index.parse(store.blobs.read_bytes(descriptor)), reference)

    # --- sending, saving, removing -----------------------------------------------------------

    def push(
        self,
        name: str | Reference | None = None,
        *,
        progress: Progress | None = None,
        insecure: bool | None = None,
        credentials: Credentials | None = None,
        timeout: float = 30.0,
    ) -> Reference:
        """Send all images to a registry, then the index; arguments and errors as for `Image.push`.

        Returns:
            The name with the index's digest.
        """
        given = Reference.parse(name) if isinstance(name, str) else name
        reference = given or self.reference
        if reference is None:
            raise ImageError(
                f"index {self.digest} has no name to push it by", remedy='push("host/name:tag")'
            )
        with (
            Client(
                reference.registry, insecure=insecure, timeout=timeout, credentials=credentials
            ) as client,
            self.store.lease(),
        ):
            for entry in self.index.manifests:
                _transfer.push(
                    client,
                    self._manifest(entry),
                    reference.with_digest(entry.digest),
                    self.store,
                    progress=one_at_a_time(progress),
                )
            digest = client.put_manifest(
                reference.repository,
                reference.target,
                self.index.encode(),
                self.index.media_type,
            )
        return reference.with_digest(digest)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        format: Literal["oci-archive", "oci-layout"] = "oci-archive",  # noqa: A002
    ) -> None:
        """Write all images to a file or directory; errors as for `Image.save`."""
        manifests = [self._manifest(entry) for entry in self.index.manifests]
        _files.save_index(self.store, self.index, manifests, self.reference, Path(path), format)

    def delete(self) -> None:
        """Take the name away, of the index and of the image that has it with it."""
        self.store.drop_root(_ROOT, str(self.reference or self.digest))
        if self.reference is not None:
            _names.release(self.store, [str(self.reference)])


def create_index(
    store: Store,
    manifests: Sequence[Descriptor],
    *,
    tag: str | Reference | None = None,
) -> ImageIndex:
    """Make an index of stored manifests, each with its platform.

    Args:
        store: Where they are.
        manifests: Their descriptors, as they will stand in the index.
        tag: Its name; without one it is kept under its digest.

    Raises:
        BlobNotFound: A manifest is not in the store.
    """
    reference = Reference.parse(tag) if isinstance(tag, str) else tag
    index = Index(manifests=tuple(manifests))
    with store.lease():
        for entry in manifests:
            store.blobs.size(entry.digest)
        with store.blobs.writer() as blob:
            blob.write(index.encode())
            digest = blob.commit()
        node = ("blob", str(digest))
        store.link(node, [("blob", str(entry.digest)) for entry in manifests])
        store.add_root(_ROOT, str(reference or digest), [node])
    return ImageIndex(store, index, reference)
