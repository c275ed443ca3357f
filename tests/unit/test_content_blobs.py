"""Blobs appear whole or not at all, and wrong bytes are never handed out as right ones."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from pycontainer.content import BlobDir, VerifiedReader
from pycontainer.content._locked import create_locked, is_abandoned, remove_abandoned
from pycontainer.errors import BlobNotFound, ContentError, DigestMismatch, SizeMismatch
from pycontainer.oci import Descriptor, Digest, media_types

DATA = b"the content of a blob"


def described(
    data: bytes = DATA, *, size: int | None = None, algorithm: str = "sha256"
) -> Descriptor:
    digest = Digest.of(data, algorithm)
    return Descriptor(media_types.OCI_LAYER, digest, len(data) if size is None else size)


def add(blobs: BlobDir, data: bytes = DATA) -> Digest:
    with blobs.writer() as writer:
        writer.write(data)
        return writer.commit()


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


@pytest.fixture
def blobs(tmp_path: Path) -> BlobDir:
    return BlobDir(tmp_path)


# --- directories -----------------------------------------------------------------------------


def test_a_blob_is_a_file_named_by_its_digest(blobs: BlobDir, tmp_path: Path) -> None:
    digest = add(blobs)
    assert digest == Digest.of(DATA)
    assert files(tmp_path) == [f"blobs/sha256/{digest.hex}"]
    assert blobs.path(digest).read_bytes() == DATA
    assert blobs.exists(digest)
    assert blobs.size(digest) == len(DATA)
    assert list(blobs.digests()) == [digest]
    with blobs.open(digest) as file:
        assert file.read() == DATA


def test_nothing_is_made_before_something_is_written(blobs: BlobDir, tmp_path: Path) -> None:
    assert not blobs.exists(Digest.of(DATA))
    assert list(blobs.digests()) == []
    blobs.delete(Digest.of(DATA))
    blobs.sweep()
    assert files(tmp_path) == []


def test_what_is_not_there_is_named(blobs: BlobDir) -> None:
    for look in (
        lambda: blobs.size(Digest.of(DATA)),
        lambda: blobs.open(Digest.of(DATA)),
        lambda: blobs.reader(described()),
        lambda: blobs.read_bytes(described()),
    ):
        with pytest.raises(BlobNotFound, match=str(Digest.of(DATA))):
            look()


def test_a_blob_is_deleted_once_or_twice(blobs: BlobDir) -> None:
    digest = add(blobs)
    blobs.delete(digest)
    blobs.delete(digest)
    assert not blobs.exists(digest)


def test_foreign_files_are_not_taken_for_blobs(blobs: BlobDir) -> None:
    digest = add(blobs)
    blobs.path(digest).with_name("README").write_text("")
    assert list(blobs.digests()) == [digest]


def test_a_document_is_read_whole_and_verified(blobs: BlobDir) -> None:
    digest = add(blobs)
    assert blobs.read_bytes(described()) == DATA
    blobs.path(digest).write_bytes(DATA.upper())
    with pytest.raises(DigestMismatch):
        blobs.read_bytes(described())


def test_a_document_of_any_announced_size_is_not_read_whole(blobs: BlobDir) -> None:
    add(blobs)
    with pytest.raises(ContentError, match="too large to be read at once"):
        blobs.read_bytes(described(size=1 << 62))
    with pytest.raises(ContentError, match=r"\(at most 3\)"):
        blobs.read_bytes(described(), limit=3)
    with pytest.raises(SizeMismatch):
        blobs.read_bytes(described(size=1 << 62), limit=1 << 63)


def test_what_cannot_be_read_is_told(blobs: BlobDir) -> None:
    blobs.path(Digest.of(DATA)).mkdir(parents=True)
    with pytest.raises(ContentError, match=f"cannot read blob {Digest.of(DATA)}.*directory"):
        blobs.open(Digest.of(DATA))


# --- writers ---------------------------------------------------------------------------------


def test_nothing_is_seen_before_commit(blobs: BlobDir, tmp_path: Path) -> None:
    with blobs.writer() as writer:
        writer.write(DATA)
        assert list(blobs.digests()) == []
        assert [Path(name).suffix for name in files(tmp_path)] == [".partial"]
        digest = writer.commit()
    assert files(tmp_path) == [f"blobs/sha256/{digest.hex}"]


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_without_commit_nothing_is_left(
    blobs: BlobDir, tmp_path: Path, error: type[BaseException] | None
) -> None:
    def write() -> None:
        with blobs.writer() as writer:
            writer.write(DATA)
            if error is not None:
                raise error

    if error is None:
        write()
    else:
        with pytest.raises(error):
            write()
    assert files(tmp_path) == []


def test_the_writer_counts_and_hashes_as_it_goes(blobs: BlobDir) -> None:
    with blobs.writer() as writer:
        assert (writer.size, writer.digest) == (0, Digest.of(b""))
        assert writer.write(memoryview(b"ab")) == 2
        assert writer.write(bytearray(b"c")) == 1
        assert (writer.size, writer.digest) == (3, Digest.of(b"abc"))
        assert writer.commit() == Digest.of(b"abc")
        assert writer.size == 3


def test_items_of_a_view_are_not_taken_for_bytes(blobs: BlobDir) -> None:
    with blobs.writer() as writer:
        assert writer.write(memoryview(b"12345678").cast("I")) == 8
        assert writer.commit() == Digest.of(b"12345678")


def test_a_blob_may_be_there_already(blobs: BlobDir, tmp_path: Path) -> None:
    assert add(blobs) == add(blobs)
    assert len(files(tmp_path)) == 1


def test_what_is_expected_is_checked(blobs: BlobDir, tmp_path: Path) -> None:
    with blobs.writer(described()) as writer:
        writer.write(DATA)
        assert writer.commit() == Digest.of(DATA)
    with blobs.writer(described()) as writer:
        writer.write(DATA.upper())
        with pytest.raises(DigestMismatch, match=f"should be {Digest.of(DATA)}"):
            writer.commit()
    with blobs.writer(described()) as writer:
        writer.write(DATA[1:])
        with pytest.raises(SizeMismatch, match=f"should have {len(DATA)} bytes, found"):
            writer.commit()
    assert len(files(tmp_path)) == 1


def test_what_is_too_long_is_refused_as_soon_as_it_comes(blobs: BlobDir, tmp_path: Path) -> None:
    with blobs.writer(described()) as writer:
        writer.write(DATA)
        with pytest.raises(SizeMismatch, match=f"at least {len(DATA) + 1} have come"):
            writer.write(b"!")
    assert files(tmp_path) == []


def test_commit_checks_what_it_is_told(blobs: BlobDir, tmp_path: Path) -> None:
    with blobs.writer() as writer:
        writer.write(DATA)
        with pytest.raises(DigestMismatch):
            writer.commit(Digest.of(b""))
        with pytest.raises(SizeMismatch):
            writer.commit(Digest.of(DATA), len(DATA) - 1)
    assert files(tmp_path) == []


def test_who_hashes_elsewhere_tells_the_digest(blobs: BlobDir) -> None:
    with blobs.writer(described(), hashing=False) as writer:
        writer.write(DATA)
        with pytest.raises(ValueError, match="not to hash"):
            _ = writer.digest
        with pytest.raises(ValueError, match="must be told"):
            writer.commit()
        with pytest.raises(DigestMismatch):
            writer.commit(Digest.of(b""))
        assert writer.commit(Digest.of(DATA), len(DATA)) == Digest.of(DATA)


def test_bytes_written_past_the_writer_are_counted(blobs: BlobDir) -> None:
    with blobs.writer(described(), hashing=False) as writer:
        os.write(writer.fileno(), DATA)
        assert writer.commit(Digest.of(DATA)) == Digest.of(DATA)
        assert writer.size == len(DATA)


@pytest.mark.parametrize("refusal", [None, errno.EXDEV, errno.ENOSYS])
def test_a_file_is_copied_by_the_kernel_or_without_it(
    blobs: BlobDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | None
) -> None:
    data = os.urandom((1 << 20) + 7)
    (tmp_path / "source").write_bytes(data)
    if refusal is not None:

        def refuse(*_arguments: int) -> int:
            raise OSError(refusal, os.strerror(refusal))

        monkeypatch.setattr(os, "copy_file_range", refuse)
    with (tmp_path / "source").open("rb") as source, blobs.writer() as writer:
        writer.write(b"before ")
        writer.write_file(source.fileno())
        writer.write(b" behind")
        digest = writer.commit()
    assert digest == Digest.of(b"before " + data + b" behind")
    assert blobs.path(digest).read_bytes() == b"before " + data + b" behind"


def test_a_file_that_is_not_what_was_expected_is_found_out(blobs: BlobDir, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA[::-1])
    with source.open("rb") as file, blobs.writer(described()) as writer:
        writer.write_file(file.fileno())
        with pytest.raises(DigestMismatch):
            writer.commit()
    source.write_bytes(DATA * 2)
    with (
        source.open("rb") as file,
        blobs.writer(described()) as writer,
        pytest.raises(SizeMismatch),
    ):
        writer.write_file(file.fileno())
    assert not list(blobs.digests())


def test_a_disk_that_fails_while_a_file_is_copied_is_told(
    blobs: BlobDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "source").write_bytes(DATA)
    monkeypatch.setattr(os, "copy_file_range", fail)
    with (
        (tmp_path / "source").open("rb") as source,
        blobs.writer() as writer,
        pytest.raises(ContentError, match="No space"),
    ):
        writer.write_file(source.fileno())


def test_another_algorithm_has_its_own_directory(blobs: BlobDir, tmp_path: Path) -> None:
    expected = described(algorithm="sha512")
    with blobs.writer(expected) as writer:
        writer.write(DATA)
        writer.commit()
    assert files(tmp_path) == [f"blobs/sha512/{expected.digest.hex}"]
    with blobs.writer(hashing=False) as writer:
        writer.write(DATA)
        writer.commit(Digest.of(DATA, "sha512"))
    assert files(tmp_path) == [f"blobs/sha512/{expected.digest.hex}"]


def test_a_writer_is_used_once(blobs: BlobDir) -> None:
    with blobs.writer() as writer:
        writer.commit()
        with pytest.raises(ValueError, match="closed"):
            writer.commit()
    writer.close()
    writer.close()


def test_a_full_disk_is_told(
    blobs: BlobDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with blobs.writer() as writer:
        writer.write(DATA)
        with pytest.raises(ContentError, match=r"cannot write a blob in .*: No space left"):
            writer.commit()
    assert files(tmp_path) == []


def test_where_nothing_can_be_written_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("")
    with pytest.raises(ContentError, match="cannot write a blob in"):
        BlobDir(tmp_path).writer()


# --- unfinished blobs ------------------------------------------------------------------------


def test_only_the_unfinished_blobs_of_the_dead_are_swept(blobs: BlobDir, tmp_path: Path) -> None:
    with blobs.writer() as writer:
        writer.write(DATA)
        (tmp_path / "blobs/sha256/.dead.partial").write_bytes(b"half")
        blobs.sweep()
        assert len(files(tmp_path)) == 1
        digest = writer.commit()
    assert files(tmp_path) == [f"blobs/sha256/{digest.hex}"]


def test_a_lock_tells_whether_the_maker_lives(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert is_abandoned(path)
    fd = create_locked(path)
    assert not is_abandoned(path)
    assert not remove_abandoned(path)
    os.close(fd)
    assert is_abandoned(path)
    assert remove_abandoned(path)
    assert not path.exists()


def test_a_file_swept_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    real, rivals = os.open, [True]

    def slow(name: str | Path, *args: int) -> int:
        fd = real(name, *args)
        if rivals:
            rivals.clear()
            assert remove_abandoned(path)
        return fd

    monkeypatch.setattr(os, "open", slow)
    fd = create_locked(path)
    assert os.fstat(fd).st_ino == path.stat().st_ino
    assert not is_abandoned(path)
    os.close(fd)


# --- verified readers ------------------------------------------------------------------------


class Source(io.BytesIO):
    """Counts what is asked of it, and hands out at most three bytes a read."""

    asked = 0

    def read(self, n: int | None = -1, /) -> bytes:
        assert n is not None
        self.asked += n
        return super().read(min(n, 3))


@pytest.mark.parametrize("n", [1, 2, 7, 1 << 20, -1])
def test_right_bytes_are_handed_out(n: int) -> None:
    reader = VerifiedReader(Source(DATA), described())
    assert not reader.verified
    assert b"".join(iter(lambda: reader.read(n), b"")) == DATA
    assert reader.verified
    assert reader.read(n) == b""


def test_one_byte_past_the_end_is_asked_for() -> None:
    source = Source(DATA)
    reader = VerifiedReader(source, described())
    for _ in DATA:
        reader.read(1)
    assert source.asked == len(DATA) + 1


@pytest.mark.parametrize("n", [1, 7, 1 << 20, -1])
@pytest.mark.parametrize(
    ("data", "error", "complaint"),
    [
        (DATA + b"!", SizeMismatch, "goes on after them"),
        (DATA[:-1], SizeMismatch, f"ended after {len(DATA) - 1}"),
        (b"", SizeMismatch, "ended after 0"),
        (DATA.upper(), DigestMismatch, f"should be {Digest.of(DATA)}, its bytes are sha256:"),
    ],
)
def test_wrong_bytes_are_never_handed_out_whole(
    data: bytes, error: type[ContentError], complaint: str, n: int
) -> None:
    reader = VerifiedReader(Source(data), described())
    got = b""
    with pytest.raises(error, match=complaint):  # noqa: PT012
        while len(got) < len(DATA):
            got += reader.read(n)
    assert len(got) < len(DATA)
    assert not reader.verified
    with pytest.raises(ContentError):
        reader.read(1)


def test_a_source_that_gives_more_than_asked_is_found_out() -> None:
    class Generous(io.BytesIO):
        def read(self, n: int | None = -1, /) -> bytes:
            return super().read()

    with pytest.raises(SizeMismatch, match="goes on"):
        VerifiedReader(Generous(DATA), described(size=3)).read(3)


def test_even_no_bytes_are_verified() -> None:
    assert VerifiedReader(io.BytesIO(), described(b"")).read(0) == b""
    assert VerifiedReader(io.BytesIO(), described(b"")).read(10) == b""
    with pytest.raises(SizeMismatch, match="goes on"):
        VerifiedReader(io.BytesIO(b"x"), described(b"")).read(10)
    with pytest.raises(DigestMismatch):
        VerifiedReader(io.BytesIO(), described(size=0)).read(10)


def test_the_reader_closes_its_source() -> None:
    source = io.BytesIO(DATA)
    with VerifiedReader(source, described()):
        pass
    assert source.closed

    class Bare:
        def read(self, n: int, /) -> bytes:
            return b""

    VerifiedReader(Bare(), described()).close()
