"""Images: what they are, where they come from, where they go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self, get_args

from attrs import field, frozen

from pycontainer.content import Store
from pycontainer.errors import ImageError, ImageNotFound, PlatformNotFound
from pycontainer.images import _create, _files, _names, _transfer
from pycontainer.images._convert import converted
from pycontainer.images._deletion import take_names
from pycontainer.images._files import Format
from pycontainer.images._find import find_in_index, find_row, references
from pycontainer.images._intake import may_run
from pycontainer.images._platforms import ALL, one_platform, parse_platform
from pycontainer.images._progress import Progress, one_at_a_time
from pycontainer.images._reach import Reach
from pycontainer.images._trust import Trust
from pycontainer.oci import Descriptor, Digest, ImageConfig, Manifest, Platform, Reference
from pycontainer.snapshots import Driver, Snapshot, ensure_directory, ensure_layer, prepare

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from pycontainer.images._convert import Schema
    from pycontainer.images._sign import PublicKey
    from pycontainer.images._trust import Policy
    from pycontainer.oci import ContainerConfig, History
    from pycontainer.registry import Credentials, Mirrored, Tls

__all__ = ["Image", "record"]


@frozen(repr=False)
class Image:
    """An image in a store: frozen documents, and what can be done with them.

    Attributes:
        store: Where it is.
        descriptor: Of its manifest.
        manifest: The manifest.
        config: The config.
        reference: The name it was asked for by; None if that was none.
        tags: All its names when it was read.
    """

    store: Store = field(eq=False)
    descriptor: Descriptor
    manifest: Manifest = field(eq=False)
    config: ImageConfig = field(eq=False)
    reference: Reference | None = field(default=None, eq=False)
    tags: tuple[Reference, ...] = field(default=(), eq=False)

    def __repr__(self) -> str:
        name = "" if self.reference is None else f"{self.reference.familiar!r}, "
        return f"Image({name}{self.digest})"

    # --- what it is --------------------------------------------------------------------------

    @property
    def digest(self) -> Digest:
        """Digest of the manifest."""
        return self.descriptor.digest

    @property
    def id(self) -> Digest:
        """Digest of the config."""
        return self.manifest.config.digest

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The layers as stored, the bottom first."""
        return self.manifest.layers

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """Digests of the layers' tars, the bottom first."""
        return self.config.diff_ids

    @property
    def history(self) -> tuple[History, ...]:
        """How it came about, the oldest first."""
        return self.config.history

    @property
    def platform(self) -> Platform:
        """What it runs on."""
        return self.config.platform

    @property
    def size(self) -> int:
        """Bytes of its blobs, as they are stored and sent: manifest, config, each layer once."""
        blobs = {blob.digest: blob.size for blob in (self.manifest.config, *self.layers)}
        return self.descriptor.size + sum(blobs.values())

    # --- finding -----------------------------------------------------------------------------

    @classmethod
    def get(cls, name: str | Reference | Digest, *, store: Store | None = None) -> Self:
        """Find an image.

        Args:
            name: A reference; a digest of manifest or config; the first four or more digits of one.
            store: Where; left out, the default store.

        Raises:
            ImageNotFound: There is none, or the digits fit several.
            InvalidReference: `name` cannot name an image.
        """
        store = store or Store.default()
        row, reference = find_row(store, name)
        return cls._read(store, row.manifest, reference)

    @classmethod
    def list(cls, *, store: Store | None = None) -> tuple[Self, ...]:
        """All images of a store, once for each of their names, in the names' order."""
        store = store or Store.default()
        return tuple(cls._read(store, row.manifest, row.reference) for row in _names.listed(store))

    @classmethod
    def _read(cls, store: Store, descriptor: Descriptor, reference: Reference | None) -> Self:
        data = store.blobs.read_bytes(descriptor)
        manifest = Manifest.parse(data, media_type=descriptor.media_type)
        config = ImageConfig.parse(store.blobs.read_bytes(manifest.config))
        tags = [row.reference for row in _names.names_of(store, descriptor.digest)]
        return cls(store, descriptor, manifest, config, reference, tuple(filter(None, tags)))

    # --- bringing ----------------------------------------------------------------------------

    @classmethod
    def pull(
        cls,
        name: str | Reference,
        *,
        platform: str | Platform | None = None,
        policy: Policy = "always",
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
        """Bring an image from its registry, its layers in parallel, and unpack them.

        After a failure the image is not there. What had come by then, also of layers that were not
        complete, is kept for another try, by this program or another one, until the next
        `Store.collect`; of a wrong layer nothing is. Programs that want the same layer at the same
        time fetch it once.

        Args:
            name: Its reference.
            platform: Which of several, such as ``linux/arm64``; None for this machine's. ``all`` brings
                all of them, as `ImageIndex.pull` does, and returns the one that has the name then;
                `ImageIndex.get` finds the index.
            policy: Whether to ask the registry: always, only if the image is missing in the store, or
                never, which finds it or fails.
            store: Where to; left out, the default store.
            progress: Called with events, one at a time.
            insecure: Whether plain HTTP may be spoken; None: only to this machine.
            timeout: Seconds for a connection to come up, and for each wait for bytes.
            within: Seconds for the whole; None for as many as it takes.
            credentials: Who asks; None for whom Docker's configuration names.
            tls: How to speak TLS; None for what this machine has configured (``certs.d``).
            mirrors: Hosts that are asked before the registry, in this order; one that cannot help is
                passed over.
            signed_by: Refuse it unless the registry has a signature by this key.
            accept: Called with its name and the digest that this stands for, before anything else is
                fetched; raises to refuse it.

        Raises:
            ImageNotFound: It is not there, and the policy is ``never``.
            SignatureError: It has no such signature.
            RegistryError: The registry has no such image, cannot be reached or refuses.
            PlatformNotFound: There is none for that platform.
            ContentError: What it sends is not what it announced.
            LayerError: A layer is unsound.
        """
        reference = references(name)[0]
        reach = Reach(
            insecure=insecure, timeout=timeout, credentials=credentials, tls=tls, mirrors=mirrors
        )
        with reach.client(reference.registry) as registry, reach.source(registry) as source:
            return cls._pull(
                source,
                reference,
                store or Store.default(),
                platform=platform,
                policy=policy,
                progress=progress,
                within=within,
                trust=Trust(signed_by=signed_by, accept=accept),
            )

    @classmethod
    def _pull(
        cls,
        source: Mirrored,
        reference: Reference,
        store: Store,
        *,
        platform: str | Platform | None,
        policy: Policy,
        progress: Progress | None,
        within: float | None,
        trust: Trust,
    ) -> Self:
        trust.refuse_without_asking(policy)
        if policy != "always":
            present = cls._present(reference, platform, store, must=policy == "never")
            if present is not None:
                return present
        _transfer.pull(
            source,
            reference,
            store,
            platform=one_platform(platform),
            whole=platform == ALL,
            progress=one_at_a_time(progress),
            seconds=within,
            accept=lambda digest: trust.check(source.registry, reference, digest),
        )
        store.record("image", "pull", str(reference), {"name": str(reference)})
        return cls.get(reference, store=store)

    @classmethod
    def _present(
        cls, reference: Reference, platform: str | Platform | None, store: Store, *, must: bool
    ) -> Self | None:
        try:
            image = cls.get(reference, store=store)
        except ImageNotFound:
            if must:
                raise
            return None
        if platform == ALL:
            if _names.find_index(store, str(reference)) is not None:
                return image
            found = "the image alone"
        else:
            wanted = parse_platform(platform)
            if wanted is None or may_run(image.platform, wanted):
                return image
            inner = find_in_index(store, reference, wanted)
            if inner is not None:
                return cls._read(store, inner, None)
            found = f"the image for {image.platform}"
        if must:
            raise PlatformNotFound(f"{reference} is there as {found}, not for {platform}")
        return None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        platform: str | Platform | None = None,
        store: Store | None = None,
        progress: Progress | None = None,
    ) -> tuple[Self, ...]:
        """Bring the images of a file or directory into a store, and unpack their layers.

        Args:
            path: An OCI layout, the tar of one, or what ``docker save`` writes (of any age); a tar
                may be compressed by gzip, zstd, xz or bzip2.
            platform: The only one that is wanted of several; None for this machine's of an image
                that is there for several.
            store: Where to; left out, the default store.
            progress: Called with events, one at a time.

        Returns:
            The images under the names they have there; those without stay unnamed.

        Raises:
            ImageError: It is none of these, or holds no image.
            SpecError: A document in it is damaged.
            ContentError: A blob is not what it should be.
            LayerError: The tar is damaged, or a layer unsound.
        """
        store = store or Store.default()
        wanted = parse_platform(platform)
        loaded = _files.load(store, Path(path), platform=wanted, progress=one_at_a_time(progress))
        images = tuple(cls._made(store, manifest, names) for manifest, names in loaded)
        for image in images:
            record(image, "load")
        return images

    def save(self, path: str | os.PathLike[str], *, format: Format = "oci-archive") -> None:  # noqa: A002
        """Write the image to a file or directory. The same image gives the same bytes.

        Args:
            path: Where to; a file is replaced, an OCI layout gets the image in addition.
            format: ``oci-archive`` (a tar), ``oci-layout`` (a directory) or ``docker-archive``, which
                every ``docker load`` reads.

        Raises:
            ImageError: It cannot be written there.
            ContentError: A stored blob is missing or damaged.
        """
        if format not in get_args(Format):
            raise ValueError(f"unknown format {format!r}: one of {', '.join(get_args(Format))}")
        _files.save(self.store, self.manifest, self.config, self.reference, Path(path), format)

    @classmethod
    def import_rootfs(
        cls,
        path: str | os.PathLike[str],
        *,
        tag: str | Reference | None = None,
        config: ContainerConfig | None = None,
        platform: str | Platform | None = None,
        store: Store | None = None,
    ) -> Self:
        """Make an image of a root file system. The same files give the same digest.

        Args:
            path: A directory, or a tar, perhaps compressed by gzip, zstd, xz or bzip2.
            tag: Its name.
            config: What its containers do unless told otherwise.
            platform: What it is for; None for this machine's.
            store: Where to; left out, the default store.

        Raises:
            ImageError: There is nothing such at `path`.
            LayerError: The tar is damaged, or an entry leads out of the root.
        """
        store = store or Store.default()
        names = references(tag)
        manifest = _create.import_rootfs(
            store,
            Path(path),
            config=config,
            platform=parse_platform(platform),
            names=names,
        )
        image = cls._made(store, manifest, names)
        record(image, "import")
        return image

    @classmethod
    def from_interpreter(
        cls,
        tag: str | Reference | None = None,
        packages: Sequence[str] = (),
        *,
        programs: Sequence[str] = (),
        store: Store | None = None,
    ) -> Self:
        """Make an image of the Python that runs this program; needs no network.

        It holds the interpreter at its own place, its standard library without tests, the shared
        libraries it uses, the authorities this machine trusts, ``/bin/sh`` and a minimal ``/etc``.
        In a virtual environment the interpreter below it is taken. The same files of this machine
        give the same digest.

        Args:
            tag: Its name.
            packages: Distributions installed here that it shall have too, with what they require,
                such as ``attrs`` or ``uvicorn[standard]``.
            programs: Programs of this machine that it shall have too, such as ``ls``.
            store: Where to; left out, the default store.

        Raises:
            ImageError: There is no interpreter to copy, or something it needs is missing.
        """
        store = store or Store.default()
        names = references(tag)
        manifest = _create.from_interpreter(store, packages, programs, names)
        return cls._made(store, manifest, names)

    @classmethod
    def _made(cls, store: Store, manifest: Manifest, names: Sequence[Reference]) -> Self:
        return cls._read(store, manifest.descriptor(), names[0] if names else None)

    # --- naming, sending, removing -----------------------------------------------------------

    def tag(self, name: str | Reference) -> Self:
        """Give the image a name, taken from whichever had it.

        Returns:
            The image under that name.
        """
        names = references(name)
        _names.assign(self.store, self.descriptor, self.id, names)
        image = self._made(self.store, self.manifest, names)
        record(image, "tag")
        return image

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
        schema: Schema | None = None,
    ) -> Reference:
        """Send the image to a registry: what that lacks of the layers in parallel, then the manifest.

        Args:
            name: Where to; None for the name it has.
            progress: Called with events, one at a time.
            insecure: Whether plain HTTP may be spoken; None: only to this machine.
            timeout: Seconds for a connection to come up, and for each wait for an answer.
            within: Seconds for the whole; None for as many as it takes.
            credentials: Who asks; None for whom Docker's configuration names.
            tls: How to speak TLS; None for what this machine has configured (``certs.d``).
            schema: ``docker`` sends the manifest in the words of Docker's schema 2, for old registries
                and clients, ``oci`` in OCI's; config and layers stay what they are. None for as it is.

        Returns:
            The name with the digest that it has there.

        Raises:
            ImageError: There is no name to push it by, or `schema` cannot say what it is.
            RegistryError: The registry cannot be reached or refuses.
        """
        reference = references(name)[0] if name is not None else self.reference
        if reference is None:
            raise ImageError(
                f"image {self.digest} has no name to push it by", remedy='push("host/name:tag")'
            )
        reach = Reach(insecure=insecure, timeout=timeout, credentials=credentials, tls=tls)
        with reach.client(reference.registry) as client:
            digest = _transfer.push(
                client,
                converted(self.manifest, schema),
                reference,
                self.store,
                progress=one_at_a_time(progress),
                seconds=within,
            )
        self.store.record("image", "push", str(reference), {"name": str(reference)})
        return reference.with_digest(digest)

    def delete(self, *, force: bool = False) -> None:
        """Take the name away, or all names of an image that was found by its digest.

        An index of that name goes with it. What nothing needs any more is removed by the next
        `Store.collect`.

        Args:
            force: Even if there are several names to take, or a container still runs on the image;
                it keeps what it needs until it is deleted.

        Raises:
            ImageInUse: The image has several names, or a container needs it.
        """
        if take_names(self.store, self.digest, self.id, self.reference, force=force):
            record(self, "delete")

    # --- running -----------------------------------------------------------------------------

    def unpack(self) -> tuple[Path, ...]:
        """The directories of the layers, the bottom first, unpacked if one is not.

        Running containers does not take it: layers that are only indexed then stay so.

        Raises:
            ContentError: A stored layer is missing or damaged.
        """
        pairs = zip(self.layers, self.diff_ids, strict=True)
        return tuple(ensure_directory(self.store, layer, diff_id) for layer, diff_id in pairs)

    def find_layer(self, diff_id: Digest) -> Path:
        """The directory or index of one of its layers, made now if it is not there.

        Raises:
            ContentError: The stored layer is missing or damaged.
        """
        descriptor = self.layers[self.diff_ids.index(diff_id)]
        return ensure_layer(self.store, descriptor, diff_id)

    def prepare(
        self,
        directory: Path,
        *,
        driver: Driver | None = None,
        writable: bool = True,
        volatile: bool = False,
        find: Callable[[Digest], Path] | None = None,
        make: bool = True,
    ) -> Snapshot:
        """Make what is needed to run on the image; see `pycontainer.snapshots.prepare`."""
        return prepare(
            self.store,
            self.diff_ids,
            directory,
            driver=driver,
            writable=writable,
            volatile=volatile,
            find=self.find_layer if find is None else find,
            make=make,
        )


def record(image: Image, action: str) -> None:
    """Add an event of an image to its store's."""
    name = str(image.reference or image.id)
    image.store.record("image", action, str(image.id), {"name": name})
