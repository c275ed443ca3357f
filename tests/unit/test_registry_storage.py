"""A registry's storage in a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pycontainer.errors import DigestMismatch
from pycontainer.oci import Descriptor, Digest, Index, Manifest, media_types
from pycontainer.registry._codes import ApiError
from pycontainer.registry._files import FileStorage
from pycontainer.registry._manifests import receive, referrers_index, store
from pycontainer.registry._storage import StoredManifest, UploadBusy

DATA = b"some bytes"
DIGEST = Digest.of(DATA)


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    return FileStorage(tmp_path)


def add_blob(storage: FileStorage, repository: str, data: bytes = DATA) -> Descriptor:
    upload = storage.begin_upload(repository)
    upload.write(data)
    upload.commit(Digest.of(data))
    return Descriptor("application/x", Digest.of(data), len(data))


def add_manifest(
    storage: FileStorage, repository: str, tag: str | None, subject: Digest | None = None
) -> Digest:
    config = add_blob(storage, repository, f"{repository} {tag}".encode())
    described = Descriptor("", subject, 1) if subject is not None else None
    manifest = Manifest(config=config, subject=described)
    stored = StoredManifest(manifest.encode(), manifest.media_type, manifest.digest)
    put(storage, repository, stored, tag, subject)
    return stored.digest


def put(
    storage: FileStorage,
    repository: str,
    stored: StoredManifest,
    tag: str | None,
    subject: Digest | None = None,
) -> None:
    storage.put_manifest(repository, stored, subject=subject)
    if tag is not None:
        storage.put_tag(repository, tag, stored.digest)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


class TestUploads:
    def test_becomes_a_blob_of_its_repository_alone(self, storage: FileStorage) -> None:
        upload = storage.begin_upload("a/b")
        assert storage.blob_size("a/b", DIGEST) is None
        upload.write(DATA[:3])
        upload.write(DATA[3:])
        assert upload.offset == len(DATA)
        upload.commit(DIGEST)
        assert storage.blob_size("a/b", DIGEST) == len(DATA)
        assert storage.blob_size("a", DIGEST) is None
        assert storage.open_blob("a", DIGEST) is None
        file = storage.open_blob("a/b", DIGEST)
        assert file is not None
        with file:
            assert file.read() == DATA
        assert storage.resume_upload("a/b", upload.id) is None

    def test_leaves_nothing_but_the_blob(self, storage: FileStorage, tmp_path: Path) -> None:
        add_blob(storage, "a")
        storage.begin_upload("a").cancel()
        assert files(tmp_path) == {
            "lock",
            f"blobs/sha256/{DIGEST.hex}",
            f"repositories/a/_blobs/sha256/{DIGEST.hex}",
        }

    def test_other_bytes_are_discarded(self, storage: FileStorage, tmp_path: Path) -> None:
        upload = storage.begin_upload("a")
        upload.write(b"other")
        with pytest.raises(DigestMismatch, match=str(DIGEST)):
            upload.commit(DIGEST)
        assert files(tmp_path) == set()

    @pytest.mark.parametrize("restarted", [False, True])
    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_goes_on_in_a_later_request(
        self, storage: FileStorage, tmp_path: Path, restarted: bool, algorithm: str
    ) -> None:
        first = storage.begin_upload("a")
        first.write(DATA[:4])
        first.close()
        later = FileStorage(tmp_path) if restarted else storage
        second = later.resume_upload("a", first.id)
        assert second is not None
        assert second.offset == 4
        second.write(DATA[4:])
        second.commit(Digest.of(DATA, algorithm))
        assert later.blob_size("a", Digest.of(DATA, algorithm)) == len(DATA)

    def test_bytes_that_were_never_acknowledged_are_hashed_too(
        self, storage: FileStorage, tmp_path: Path
    ) -> None:
        first = storage.begin_upload("a")
        first.write(DATA[:4])
        first.close()
        with (tmp_path / "uploads" / first.id / "data").open("ab") as file:
            file.write(DATA[4:6])
        second = storage.resume_upload("a", first.id)
        assert second is not None
        assert second.offset == 6
        second.write(DATA[6:])
        second.commit(DIGEST)

    def test_one_request_at_a_time(self, storage: FileStorage, tmp_path: Path) -> None:
        upload = storage.begin_upload("a")
        for other in (storage, FileStorage(tmp_path)):
            with pytest.raises(UploadBusy):
                other.resume_upload("a", upload.id)
        upload.cancel()
        assert storage.resume_upload("a", upload.id) is None

    @pytest.mark.parametrize("name", ["", "..", "../repositories", "x", "0" * 32])
    def test_unknown(self, storage: FileStorage, name: str) -> None:
        assert storage.resume_upload("a", name) is None

    def test_of_another_repository(self, storage: FileStorage) -> None:
        upload = storage.begin_upload("a")
        upload.close()
        assert storage.resume_upload("b", upload.id) is None
        again = storage.resume_upload("a", upload.id)
        assert again is not None
        again.cancel()

    def test_same_blob_twice(self, storage: FileStorage) -> None:
        add_blob(storage, "a")
        add_blob(storage, "a")
        assert storage.blob_size("a", DIGEST) == len(DATA)


class TestBlobs:
    def test_mount(self, storage: FileStorage) -> None:
        add_blob(storage, "a")
        assert storage.mount_blob("a", "b/c", DIGEST)
        assert storage.blob_size("b/c", DIGEST) == len(DATA)
        assert not storage.mount_blob("elsewhere", "b/c", DIGEST)

    def test_delete(self, storage: FileStorage) -> None:
        add_blob(storage, "a")
        storage.mount_blob("a", "b", DIGEST)
        assert storage.delete_blob("a", DIGEST)
        assert not storage.delete_blob("a", DIGEST)
        assert storage.blob_size("a", DIGEST) is None
        assert storage.blob_size("b", DIGEST) == len(DATA)


class TestManifests:
    def test_by_tag_and_digest(self, storage: FileStorage, tmp_path: Path) -> None:
        digest = add_manifest(storage, "a", "v1")
        stored = FileStorage(tmp_path).manifest("a", "v1")
        assert stored is not None
        assert stored == storage.manifest("a", digest)
        assert (stored.digest, stored.media_type) == (digest, media_types.OCI_MANIFEST)
        assert storage.manifest("a", "v2") is None
        assert storage.manifest("b", digest) is None

    def test_tag_moves(self, storage: FileStorage) -> None:
        first = add_manifest(storage, "a", "v1")
        stored = storage.manifest("a", first)
        assert stored is not None
        second = add_manifest(storage, "a", "v2")
        put(storage, "a", stored, "v2", None)
        moved = storage.manifest("a", "v2")
        assert moved is not None
        assert moved.digest == first
        assert storage.manifest("a", second) is not None

    def test_delete_takes_the_tags_along(self, storage: FileStorage) -> None:
        digest = add_manifest(storage, "a", "v1")
        stored = storage.manifest("a", digest)
        assert stored is not None
        put(storage, "a", stored, "latest", None)
        add_manifest(storage, "a", "other")
        assert storage.delete_manifest("a", digest)
        assert not storage.delete_manifest("a", digest)
        assert storage.tags("a") == ["other"]

    def test_delete_tag(self, storage: FileStorage) -> None:
        digest = add_manifest(storage, "a", "v1")
        assert storage.delete_tag("a", "v1")
        assert not storage.delete_tag("a", "v1")
        assert storage.manifest("a", digest) is not None
        assert storage.tags("a") == []

    def test_lists(self, storage: FileStorage) -> None:
        for name in ("b", "a/c", "a", "a-b"):
            for tag in ("v2", "v10", "V1"):
                add_manifest(storage, name, tag)
        add_blob(storage, "only/blobs")
        assert storage.repositories() == ["a", "a-b", "a/c", "b"]
        assert storage.tags("a") == ["V1", "v10", "v2"]
        assert storage.tags("only/blobs") is None

    def test_unfinished_files_are_not_seen(self, storage: FileStorage, tmp_path: Path) -> None:
        add_manifest(storage, "a", "v1")
        (tmp_path / "repositories/a/_tags/~0123").write_text("sha2")
        assert storage.tags("a") == ["v1"]

    def test_failed_write_leaves_nothing(
        self, storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_manifest(storage, "a", "v1")
        before = files(tmp_path)

        def fail(_: int) -> None:
            raise OSError(28, "disk full")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(OSError, match="disk full"):
                storage.mount_blob("a", "b", Digest.of(b"a v1"))
        assert files(tmp_path) == before

    def test_referrers(self, storage: FileStorage) -> None:
        subject = Digest.of(b"not pushed yet")
        digests = {add_manifest(storage, "a", tag, subject) for tag in ("s1", "s2")}
        assert {entry.digest for entry in storage.referrers("a", subject)} == digests
        assert storage.referrers("b", subject) == []
        gone = digests.pop()
        storage.delete_manifest("a", gone)
        assert {entry.digest for entry in storage.referrers("a", subject)} == digests


class TestReceived:
    """What becomes of a manifest that is pushed."""

    CONFIG = Descriptor(media_types.OCI_CONFIG, DIGEST, len(DATA))

    def refused(self, data: bytes, content_type: str, target: str | Digest = "v1") -> ApiError:
        with pytest.raises(ApiError) as error:
            receive(data, content_type, target)
        return error.value

    def test_stored_with_what_it_needs(self, storage: FileStorage) -> None:
        add_blob(storage, "a")
        manifest = Manifest(config=self.CONFIG)
        store(storage, "a", receive(manifest.encode(), f"{manifest.media_type}; x=y", "v1"))
        stored = storage.manifest("a", "v1")
        assert stored is not None
        assert stored.data == manifest.encode()

    def test_under_its_digest(self, storage: FileStorage) -> None:
        add_blob(storage, "a")
        manifest = Manifest(config=self.CONFIG)
        digest = Digest.of(manifest.encode(), "sha512")
        store(storage, "a", receive(manifest.encode(), "", digest))
        assert storage.manifest("a", digest) is not None
        assert storage.tags("a") == []

    def test_contradictions(self) -> None:
        data = Manifest(config=self.CONFIG).encode()
        assert self.refused(b"{", media_types.OCI_MANIFEST).code == "MANIFEST_INVALID"
        assert self.refused(b"{}", "text/plain").code == "MANIFEST_INVALID"
        assert self.refused(data, media_types.DOCKER_MANIFEST).code == "MANIFEST_INVALID"
        assert self.refused(data, media_types.OCI_INDEX).code == "MANIFEST_INVALID"
        assert self.refused(data, "", Digest.of(b"other")).code == "DIGEST_INVALID"

    def refuse_store(self, storage: FileStorage, document: Manifest | Index) -> ApiError:
        with pytest.raises(ApiError) as error:
            store(storage, "a", receive(document.encode(), document.media_type, "v1"))
        assert storage.tags("a") is None
        return error.value

    def test_missing_parts(self, storage: FileStorage) -> None:
        error = self.refuse_store(storage, Manifest(config=self.CONFIG))
        assert (error.code, error.detail) == ("MANIFEST_BLOB_UNKNOWN", {"digest": str(DIGEST)})
        entry = Descriptor(media_types.OCI_MANIFEST, DIGEST, len(DATA))
        assert self.refuse_store(storage, Index(manifests=(entry,))).code == "MANIFEST_BLOB_UNKNOWN"

    def test_wrong_size(self, storage: FileStorage) -> None:
        add_blob(storage, "a")
        wrong = Descriptor(media_types.OCI_CONFIG, DIGEST, 3)
        assert self.refuse_store(storage, Manifest(config=wrong)).code == "MANIFEST_INVALID"

    def test_layers_from_elsewhere_need_not_be_here(self, storage: FileStorage) -> None:
        add_blob(storage, "a")
        foreign = Descriptor("x/y", Digest.of(b"foreign"), 7, urls=("https://example/x",))
        manifest = Manifest(config=self.CONFIG, layers=(foreign,))
        store(storage, "a", receive(manifest.encode(), "", "v1"))

    def test_index_of_what_is_here(self, storage: FileStorage) -> None:
        digest = add_manifest(storage, "a", None)
        stored = storage.manifest("a", digest)
        assert stored is not None
        index = Index(manifests=(Descriptor(stored.media_type, digest, len(stored.data)),))
        store(storage, "a", receive(index.encode(), index.media_type, "all"))
        assert storage.tags("a") == ["all"]

    def test_referrers_by_type(self, storage: FileStorage) -> None:
        add_blob(storage, "a")
        subject = Descriptor(media_types.OCI_MANIFEST, Digest.of(b"image"), 5)
        for document in (
            Manifest(config=self.CONFIG, subject=subject, annotations={"k": "v"}),
            Manifest(config=self.CONFIG, subject=subject, artifact_type="sig/x"),
            Index(subject=subject, artifact_type="sig/x"),
        ):
            store(storage, "a", receive(document.encode(), "", document.digest))
        entries = Index.parse(referrers_index(storage, "a", subject.digest, None)).manifests
        assert sorted(str(entry.artifact_type) for entry in entries) == [
            media_types.OCI_CONFIG,
            "sig/x",
            "sig/x",
        ]
        assert [dict(e.annotations) for e in entries if e.artifact_type != "sig/x"] == [{"k": "v"}]
        wanted = Index.parse(referrers_index(storage, "a", subject.digest, "sig/x")).manifests
        assert {entry.media_type for entry in wanted} == {
            media_types.OCI_MANIFEST,
            media_types.OCI_INDEX,
        }
        assert Index.parse(referrers_index(storage, "b", subject.digest, None)).manifests == ()
