"""A store as the storage of a registry server: what its images name is there, without a copy of any blob.

A repository is the name that people write before the tag, ``app`` or ``ghcr.io/team/app``, with ``__`` for
the colon before a port; its tags are those of the images and indexes of that name. What is pushed under a tag
becomes an image of the store. What no tag leads to is held by roots that outlive the server: blobs until a
manifest has had time to come, manifests that were pushed by digest until they are deleted.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from pycontainer.content import Schema
from pycontainer.errors import BlobNotFound, InvalidReference, PlatformNotFound, SpecError
from pycontainer.images import _names
from pycontainer.images._intake import link_image
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
from pycontainer.registry import (
    Collected,
    FileUploads,
    Needed,
    StoredManifest,
    Upload,
    parts_of,
    referrer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pycontainer.content import Node, Root, Store
    from pycontainer.registry import Pace

    T = TypeVar("T")

__all__ = ["StoreStorage"]

_BLOB: Final = "registry_blob"
_MANIFEST: Final = "registry_manifest"
"""Kinds of roots of what was pushed, and tables that say more about it."""
_IMAGE: Final = "image"
_INDEX: Final = "index"
_ARTIFACT: Final = "artifact"
_NAMED: Final = (_INDEX, _IMAGE, _ARTIFACT)
_PORTED: Final = re.compile(r"([a-z0-9][a-z0-9.-]*)__([0-9]{1,5})/(.+)")
"""A repository that stands for a host with a port; names of hosts have no underscores."""

_LARGEST_DOCUMENT: Final = 16 << 20
_FRESH_SECONDS: Final = 60.0
_SCHEMA: Final = Schema(
    "registry",
    1,
    """
    CREATE TABLE IF NOT EXISTS registry_blob (
        name TEXT NOT NULL, digest TEXT NOT NULL, touched REAL NOT NULL, PRIMARY KEY (name, digest)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS registry_manifest (
        name TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, subject TEXT,
        pushed REAL NOT NULL, PRIMARY KEY (name, digest)
    ) WITHOUT ROWID
    """,
)


class StoreStorage:
    """The `pycontainer.registry.Storage` of a store.

    Args:
        store: The store; it must stay open.
    """

    pace: Pace = "local"

    def __init__(self, store: Store) -> None:
        self._store = store
        store.db.ensure(_SCHEMA)
        self._uploads = FileUploads(store.directory("registry") / "uploads", self._add_blob)

    # --- blobs -------------------------------------------------------------------------------

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Size of a blob, or None if the repository does not hold it; held from now on if it does."""
        if not self._has(repository, digest):
            return None
        try:
            size = self._store.blobs.size(digest)
        except BlobNotFound:
            return None
        self._hold_blob(
            repository, digest
        )  # who asks may be about to push a manifest that needs it
        return size

    def open_blob(self, repository: str, digest: Digest) -> BinaryIO | None:
        """Open a blob for reading, or None if the repository does not hold it."""
        if not self._has(repository, digest):
            return None
        try:
            return self._store.blobs.open(digest)
        except BlobNotFound:
            return None

    def mount_blob(self, source: str, repository: str, digest: Digest) -> bool:
        """Let a repository hold a blob of another one; False if that does not hold it."""
        with self._store.lease("registry"):
            if not self._has(source, digest) or not self._store.blobs.exists(digest):
                return False
            self._hold_blob(repository, digest)
        return True

    def delete_blob(self, repository: str, digest: Digest) -> bool:
        """Take a blob from a repository; False if it did not hold it.

        Raises:
            Needed: A manifest of the repository needs it.
        """
        if not self._has(repository, digest):
            return False
        with self._store.db.transaction():
            self._drop_held(_BLOB, _name_of(repository), digest)
            if self._has(repository, digest):
                raise Needed(f"an image of {repository} needs {digest}")
        return True

    def _has(self, repository: str, digest: Digest) -> bool:
        return self._store.is_reached(_roots(_name_of(repository)), _node(digest))

    def _hold_blob(self, repository: str, digest: Digest) -> None:
        name, now = _name_of(repository), time.time()
        key = (name, str(digest))
        with self._store.db.transaction(write=False) as connection:
            row = connection.execute(
                "SELECT touched FROM registry_blob WHERE name = ? AND digest = ?", key
            ).fetchone()
        if row is not None and row[0] > now - _FRESH_SECONDS:
            return
        with self._store.db.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO registry_blob VALUES (?, ?, ?)", (*key, now))
            self._store.add_root(_BLOB, f"{name}@{digest}", [_node(digest)])

    def _drop_held(self, kind: str, name: str, digest: Digest | str) -> None:
        """Hold something no more: as a blob or as a manifest."""
        with self._store.db.transaction() as connection:
            connection.execute(
                f"DELETE FROM {kind} WHERE name = ? AND digest = ?",  # noqa: S608  (a constant)
                (name, str(digest)),
            )
            self._store.drop_root(kind, f"{name}@{digest}")

    # --- uploads -----------------------------------------------------------------------------

    def begin_upload(self, repository: str) -> Upload:
        """Start a new upload."""
        return self._uploads.begin(repository)

    def resume_upload(self, repository: str, upload_id: str) -> Upload | None:
        """Take hold of an upload, or None if there is no such one in the repository.

        Raises:
            UploadBusy: Another request holds it.
        """
        return self._uploads.resume(repository, upload_id)

    def _add_blob(self, repository: str, digest: Digest, data: Path) -> None:
        """Make an upload's file, which is synced, a blob of the store."""
        path = self._store.blobs.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._store.lease("registry"):
            size = os.stat(data).st_size
            self._store.put_resource("blob", str(digest), path=path, size=size, install=data)
            self._hold_blob(repository, digest)

    # --- manifests ---------------------------------------------------------------------------

    def manifest(self, repository: str, target: str | Digest) -> StoredManifest | None:
        """A manifest by tag or digest."""
        digest = self._tagged(repository, target) if isinstance(target, str) else target
        if digest is None or not self._has(repository, digest):
            return None
        return self._read(_name_of(repository), digest)

    def _read(self, name: str, digest: Digest) -> StoredManifest | None:
        with self._store.db.transaction(write=False) as connection:
            row = connection.execute(
                "SELECT media_type FROM registry_manifest WHERE name = ? AND digest = ?",
                (name, str(digest)),
            ).fetchone()
        try:
            if self._store.blobs.size(digest) > _LARGEST_DOCUMENT:
                return None
            data = self._store.blobs.path(digest).read_bytes()
            media_type = row[0] if row is not None else parse_manifest(data).media_type
        except (BlobNotFound, FileNotFoundError, SpecError):  # also a blob of another kind
            return None
        return StoredManifest(data, media_type, digest)

    def put_manifest(
        self, repository: str, manifest: StoredManifest, *, subject: Digest | None
    ) -> None:
        """Store a manifest, and make it a referrer of `subject`."""
        name, digest = _name_of(repository), manifest.digest
        document = parse_manifest(manifest.data, manifest.media_type)
        with self._store.lease("registry"):
            descriptor = Descriptor(manifest.media_type, digest, len(manifest.data))
            with self._store.blobs.writer(descriptor) as writer:
                writer.write(manifest.data)
                writer.commit()
            with self._store.db.transaction() as connection:
                config = self._image_config(document)
                if config is not None and isinstance(document, Manifest):
                    link_image(self._store, document, config)
                else:
                    parts = [_node(part.digest) for part in parts_of(document) if not part.urls]
                    self._store.link(_node(digest), parts)
                connection.execute(
                    "INSERT OR REPLACE INTO registry_manifest VALUES (?, ?, ?, ?, ?)",
                    (
                        name,
                        str(digest),
                        manifest.media_type,
                        None if subject is None else str(subject),
                        time.time(),
                    ),
                )
                self._store.add_root(_MANIFEST, f"{name}@{digest}", [_node(digest)])

    def _image_config(self, document: Manifest | Index) -> ImageConfig | None:
        """The config of what can be run; None for indexes and artifacts."""
        if (
            not isinstance(document, Manifest)
            or document.config.media_type not in media_types.CONFIGS
        ):
            return None
        if any(media_types.compression_of(layer.media_type) is None for layer in document.layers):
            return None
        try:
            config = ImageConfig.parse(self._store.blobs.read_bytes(document.config))
        except (SpecError, BlobNotFound):
            return None
        return config if len(config.diff_ids) == len(document.layers) else None

    def put_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Let a tag name a manifest that the repository holds: an image, index or artifact of the store."""
        name = _name_of(repository)
        stored = self._read(name, digest)
        if stored is None:
            raise BlobNotFound(f"no manifest {digest} in {self._store.path}")
        document = parse_manifest(stored.data, stored.media_type)
        reference = Reference.parse(f"{name}:{tag}")
        with self._store.db.transaction() as connection:
            self._unname(str(reference))
            if isinstance(document, Index):
                self._name_image(reference, self._chosen(name, document))
                _names.assign_index(self._store, digest, reference)
            elif self._image_config(document) is not None:
                self._name_image(reference, document)
            else:
                self._store.add_root(_ARTIFACT, str(reference), [_node(digest)])
            # A referrer stays when the tag moves on: nobody else leads to it.
            if document.subject is None:
                self._store.drop_root(_MANIFEST, f"{name}@{digest}")
            connection.execute(
                "UPDATE registry_manifest SET pushed = ? WHERE name = ? AND digest = ?",
                (time.time(), name, str(digest)),
            )
        self._store.record("image", "load", str(reference), {"name": str(reference)})

    def _chosen(self, name: str, index: Index) -> Manifest | Index | None:
        """What of an index this machine runs."""
        try:
            stored = self._read(name, index.select(Platform.current()).digest)
        except PlatformNotFound:
            return None
        return None if stored is None else parse_manifest(stored.data, stored.media_type)

    def _name_image(self, reference: Reference, document: Manifest | Index | None) -> None:
        if isinstance(document, Manifest) and self._image_config(document) is not None:
            _names.assign(self._store, document.descriptor(), document.config.digest, [reference])

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Take a manifest and the tags that name it from a repository; False if it was not there.

        Raises:
            Needed: An index of the repository needs it.
        """
        name = _name_of(repository)
        if self.manifest(repository, digest) is None:
            return False
        with self._store.db.transaction():
            for text in {root.name for root in self._named(name)}:
                root = self._root(text)
                if root is not None and root.targets == (_node(digest),):
                    self._unname(text)
            self._drop_held(_BLOB, name, digest)
            self._drop_held(_MANIFEST, name, digest)
            if self._has(repository, digest):
                raise Needed(f"an index of {repository} needs {digest}")
        return True

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Take a name from an image; False if none had it."""
        name = f"{_name_of(repository)}:{tag}"
        with self._store.db.transaction():
            found = self._root(name) is not None
            self._unname(name)
        return found

    def _unname(self, text: str) -> None:
        """Let nothing have that name."""
        _names.release(self._store, [text])
        self._store.drop_root(_ARTIFACT, text)

    # --- names -------------------------------------------------------------------------------

    def _tagged(self, repository: str, tag: str) -> Digest | None:
        root = self._root(f"{_name_of(repository)}:{tag}")
        return None if root is None else Digest.parse(root.targets[0][1])

    def _root(self, text: str) -> Root | None:
        """What has a name: the index that an image of that name is in, else the image."""
        found = {root.kind: root for kind in _NAMED for root in self._store.roots(kind, text)[:1]}
        found = {kind: root for kind, root in found.items() if root.name == text}
        index, image = found.get(_INDEX), found.get(_IMAGE)
        if index is not None and image is not None:  # the image may have got its name later
            return index if image.targets[0] in self._store.links(index.targets[0]) else image
        return index or image or found.get(_ARTIFACT)

    def _named(self, name: str) -> Iterator[Root]:
        for kind in _NAMED:
            yield from self._store.roots(kind, f"{name}:")

    def tags(self, repository: str) -> list[str] | None:
        """Tags, sorted; None if there is no such repository."""
        name = _name_of(repository)
        tags = {root.name.removeprefix(f"{name}:") for root in self._named(name)}
        if not tags and not self._store.roots(_MANIFEST, f"{name}@"):
            return None
        return sorted(tag for tag in tags if "@" not in tag)

    def repositories(self) -> list[str]:
        """Names of all repositories, sorted; an image of a host with an IPv6 address has none."""
        names = set()
        for kind in (*_NAMED, _MANIFEST):
            for root in self._store.roots(kind):
                if "/" not in root.name:  # an image without a name
                    continue
                reference = Reference.parse(root.name)
                if "[" not in reference.registry:
                    names.add(_repository_of(reference))
        return sorted(names)

    def referrers(self, repository: str, subject: Digest) -> list[Descriptor]:
        """The manifests that have that subject, which need not be there itself; by digest."""
        name = _name_of(repository)
        with self._store.db.transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT digest FROM registry_manifest WHERE name = ? AND subject = ? ORDER BY 1",
                (name, str(subject)),
            ).fetchall()
        found = (self.manifest(repository, Digest.parse(digest)) for (digest,) in rows)
        return [
            referrer(parse_manifest(stored.data, stored.media_type))
            for stored in found
            if stored is not None
        ]

    # --- upkeep ------------------------------------------------------------------------------

    def undisturbed(self, work: Callable[[], T]) -> T:
        """Do work that adds what needs other things, after a look whether these are there."""
        with self._store.lease("registry"):
            return work()

    def close(self) -> None:
        """Nothing to let go of."""

    def expire_uploads(self, seconds: float) -> int:
        """Forget uploads, and blobs that no manifest followed, after so long; return how many uploads."""
        self._drop_blobs(time.time() - seconds)
        return self._uploads.expire(seconds)

    def collect(self, *, young: float, untagged: bool) -> Collected:
        """Hold no more what was pushed but not named, and collect the store."""
        oldest = time.time() - young
        links = self._drop_blobs(oldest)
        if untagged:
            links += self._drop_manifests(oldest)
        collected = self._store.collect()
        blobs = sum(kind == "blob" for kind, _ in collected.removed)
        return Collected(links, blobs, collected.freed)

    def _drop_blobs(self, oldest: float) -> int:
        with self._store.db.transaction() as connection:
            rows = connection.execute(
                "SELECT name, digest FROM registry_blob WHERE touched < ?", (oldest,)
            ).fetchall()
            for name, digest in rows:
                self._drop_held(_BLOB, name, digest)
        return len(rows)

    def _drop_manifests(self, oldest: float) -> int:
        """Hold the manifests no more that neither a tag leads to nor to their subject."""
        count = 0
        with self._store.db.transaction() as connection:
            rows = connection.execute(
                "SELECT name, digest, subject FROM registry_manifest WHERE pushed < ?", (oldest,)
            ).fetchall()
            for name, digest, subject in rows:
                tags = [(kind, f"{name}:") for kind in _NAMED]
                wanted = [("blob", key) for key in (digest, subject) if key is not None]
                if not any(self._store.is_reached(tags, node) for node in wanted):
                    self._drop_held(_MANIFEST, name, digest)
                    count += 1
        return count


def _name_of(repository: str) -> str:
    """Registry and repository of the images that a repository of the server holds."""
    ported = _PORTED.fullmatch(repository)
    text = repository if ported is None else "{}:{}/{}".format(*ported.groups())
    try:
        return Reference.parse(f"{text}:any").name
    except InvalidReference:  # what is a repository need not be a host and a repository
        return f"docker.io/{repository}"


def _repository_of(reference: Reference) -> str:
    """What holds the images of a name; a repository cannot have the colon of a port in it."""
    host, colon, port = reference.registry.partition(":")
    if colon:
        return f"{host}__{port}/{reference.repository}"
    return reference.with_tag("any").familiar.removesuffix(":any")


def _roots(name: str) -> list[tuple[str, str]]:
    """What keeps the things of a repository."""
    named = [(kind, f"{name}{mark}") for kind in _NAMED for mark in ":@"]
    return [*named, (_BLOB, f"{name}@"), (_MANIFEST, f"{name}@")]


def _node(digest: Digest) -> Node:
    return ("blob", str(digest))
