"""One name for images of several platforms, and for what else belongs to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import evolve, field, frozen

from pycontainer.content import Store
from pycontainer.errors import ImageError, ImageNotFound, PlatformNotFound
from pycontainer.images import _files, _names, _transfer
from pycontainer.images._find import read_index, references
from pycontainer.images._image import Image
from pycontainer.images._platforms import ALL, parse_platform
from pycontainer.images._progress import Progress, one_at_a_time
from pycontainer.images._reach import Reach
from pycontainer.oci import Descriptor, Digest, Index, Manifest, Platform, Reference

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from pycontainer.images._sign import PublicKey
    from pycontainer.registry import Credentials, Tls

__all__ = ["ImageIndex", "create_index"]

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
        wanted = parse_platform(platform)
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
        """Find an index by the name it was built or pulled with.

        Raises:
            ImageNotFound: There is none of that name.
            InvalidReference: It cannot be a name.
        """
        store = store or Store.default()
        reference = references(name)[0]
        digest = _names.find_index(store, str(reference))
        if digest is None:
            raise ImageNotFound(
                f"no index {reference.familiar} in {store.path}",
                remedy="ImageIndex.pull or Builder.build_index brings it there",
            )
        return cls._read(store, digest, reference)

    @classmethod
    def list(cls, *, store: Store | None = None) -> tuple[Self, ...]:
        """All indexes of a store that have names, in their order."""
        store = store or Store.default()
        return tuple(
            cls._read(store, Digest.parse(root.targets[0][1]), Reference.parse(root.name))
            for root in store.roots(_names.INDEX)
            if not root.name.startswith("sha256:")
        )

    @classmethod
    def _read(cls, store: Store, digest: Digest, reference: Reference | None) -> Self:
        return cls(store, read_index(store, digest), reference)

    # --- bringing ----------------------------------------------------------------------------

    @classmethod
    def pull(
        cls,
        name: str | Reference,
        *,
        store: Store | None = None,
        progress: Progress | None = None,
        insecure: bool | None = None,
        timeout: float = 30.0,
        within: float | None = None,
        credentials: Credentials | None = None,
        tls: Tls | None = None,
        mirrors: Sequence[str] = (),
        signed_by: PublicKey | None = None,
        accept: Callable[[Reference, Digest], None] | None = None,
    ) -> Self:
        """Bring an index with all its images, and what else it refers to, from a registry.

        The image for this machine is unpacked; those for others are kept as they come, until a build
        needs them. Arguments and errors are as for `Image.pull`.

        Raises:
            ImageError: The name stands for a single image, or the index has no image.
        """
        image = Image.pull(
            name,
            platform=ALL,
            store=store,
            progress=progress,
            insecure=insecure,
            timeout=timeout,
            within=within,
            credentials=credentials,
            tls=tls,
            mirrors=mirrors,
            signed_by=signed_by,
            accept=accept,
        )
        reference = references(name)[0]
        digest = _names.find_index(image.store, str(reference))
        if digest is None:
            raise ImageError(
                f"{reference} is one image, for {image.platform}, and no index",
                remedy="Image.pull brings it",
            )
        return cls._read(image.store, digest, reference)

    # --- sending, saving, removing -----------------------------------------------------------

    def push(
        self,
        name: str | Reference | None = None,
        *,
        progress: Progress | None = None,
        insecure: bool | None = None,
        timeout: float = 30.0,
        within: float | None = None,
        credentials: Credentials | None = None,
        tls: Tls | None = None,
    ) -> Reference:
        """Send all images to a registry, then the index; arguments and errors as for `Image.push`.

        Returns:
            The name with the index's digest, which is the same there.
        """
        reference = references(name)[0] if name is not None else self.reference
        if reference is None:
            raise ImageError(
                f"index {self.digest} has no name to push it by", remedy='push("host/name:tag")'
            )
        reach = Reach(insecure=insecure, timeout=timeout, credentials=credentials, tls=tls)
        with reach.client(reference.registry) as client:
            digest = _transfer.push_index(
                client,
                self.index,
                reference,
                self.store,
                progress=one_at_a_time(progress),
                seconds=within,
            )
        self.store.record("image", "push", str(reference), {"name": str(reference)})
        return reference.with_digest(digest)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        format: Literal["oci-archive", "oci-layout"] = "oci-archive",  # noqa: A002
    ) -> None:
        """Write all images to a file or directory; errors as for `Image.save`."""
        below = [document for _, document in _transfer.documents_below(self.index, self.store)]
        _files.save_index(self.store, self.index, below, self.reference, Path(path), format)

    def tag(self, name: str | Reference) -> Self:
        """Give the index a name, and with it this machine's image, if there is one, else the first.

        Returns:
            The index under that name.

        Raises:
            ImageError: It has no image.
        """
        reference = references(name)[0]
        try:
            image = self.image()
        except PlatformNotFound:
            if not self._images:
                raise ImageError(f"index {self.digest} has no image") from None
            image = self.image(self._images[0].platform)
        with self.store.db.transaction():
            image.tag(reference)
            _names.assign_index(self.store, self.digest, reference)
        return evolve(self, reference=reference)

    def delete(self, *, force: bool = False) -> None:
        """Take the name away, of the index and of the image that has it with it.

        What nothing needs any more is removed by the next `Store.collect`. A name that stands for
        something else by now stays.

        Args:
            force: Even if a container still runs on that image.

        Raises:
            ImageInUse: A container needs the image, and nothing else would keep it.
        """
        if _names.find_index(self.store, str(self.reference or self.digest)) != self.digest:
            return
        row = None if self.reference is None else _names.find(self.store, self.reference)
        if row is not None:
            Image._read(self.store, row.manifest, self.reference).delete(force=force)  # noqa: SLF001
        _names.release_index(self.store, self.digest, self.reference)


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
        needs = [("blob", str(entry.digest)) for entry in manifests]
        with store.db.transaction():
            store.link(("blob", str(digest)), needs)
            _names.assign_index(store, digest, reference)
    return ImageIndex(store, index, reference)
