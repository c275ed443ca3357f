"""gzip and zstd, both ways."""

from __future__ import annotations

import gc
import gzip
import io
import random
import weakref
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard

from archives import in_pieces, joined
from pycontainer.errors import TarError
from pycontainer.layers import _compression, decompress, sniff
from pycontainer.layers._zstd_frames import ZstdFrames
from pycontainer.oci import Compression

DATA = random.Random(1).randbytes(300_000) + bytes(1_200_000) + b"text " * 100_000
COMPRESSED = {
    kind: joined(_compression.compress([DATA], kind))
    for kind in (Compression.GZIP, Compression.ZSTD)
}
SIZES = (1, 2, 3, 100, 70_000, 5)


@pytest.mark.parametrize("kind", Compression)
def test_there_and_back(kind: Compression) -> None:
    data = joined(_compression.compress(in_pieces(DATA, 1000), kind))
    for announced in (kind, None):
        assert joined(decompress(in_pieces(data, *SIZES), announced)) == DATA
        assert joined(decompress(io.BytesIO(data), announced)) == DATA


def test_others_read_ours() -> None:
    assert gzip.decompress(COMPRESSED[Compression.GZIP]) == DATA
    frame = COMPRESSED[Compression.ZSTD]
    assert zstandard.ZstdDecompressor().decompressobj().decompress(frame) == DATA
    assert zstandard.get_frame_parameters(frame).has_checksum


@pytest.mark.parametrize(
    ("kind", "level"),
    [(Compression.GZIP, level) for level in (1, 2, 3, 9)]
    + [(Compression.ZSTD, level) for level in (1, 3, 9)],
)
def test_pieces_do_not_change_what_comes_out(kind: Compression, level: int) -> None:
    whole = joined(_compression.compress([DATA], kind, level))
    assert joined(_compression.compress(in_pieces(DATA, 7, 512, 90_000), kind, level)) == whole


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])
def test_processors_do_not_change_what_comes_out(
    kind: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in (1, 2, 7):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        assert joined(_compression.compress([DATA], kind)) == COMPRESSED[kind]


def test_gzip_says_nothing_of_time_and_machine() -> None:
    assert COMPRESSED[Compression.GZIP][:10] == b"\x1f\x8b\x08" + bytes(6) + b"\xff"


def test_pieces_are_bounded_whatever_the_ratio() -> None:
    bomb = joined(_compression.compress([bytes(1 << 20)] * 20, Compression.ZSTD))
    sizes = [len(piece) for piece in decompress([bomb])]
    assert sum(sizes) == 20 << 20
    assert max(sizes) <= 1 << 20
    bomb = gzip.compress(bytes(20 << 20))
    assert max(len(piece) for piece in decompress([bomb])) <= 1 << 20


def test_sniffing() -> None:
    assert sniff(b"\x1f\x8b\x08\0") is Compression.GZIP
    assert sniff(b"\x28\xb5\x2f\xfd") is Compression.ZSTD
    assert sniff(b"\x53\x2a\x4d\x18") is Compression.ZSTD
    assert sniff(b"etc/") is Compression.NONE
    assert sniff(b"") is Compression.NONE
    assert list(decompress([])) == []


@pytest.fixture(params=["isal", "zlib"])
def gunzip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    if request.param == "zlib":
        monkeypatch.setattr(_compression, "_igzip", None)
    elif _compression._igzip is None:
        pytest.skip("no isal for this machine")
    return lambda data, *sizes: joined(
        decompress(in_pieces(data, *(sizes or SIZES)), Compression.GZIP)
    )


def test_gzip_members(gunzip: Callable[..., bytes]) -> None:
    one, two = gzip.compress(b"one"), gzip.compress(b"two" * 1000)
    for data in (one + two, one + bytes(1000) + two, one + two + bytes(5)):
        for sizes in (SIZES, (1,), (1 << 20,)):
            assert gunzip(data, *sizes) == b"one" + b"two" * 1000


def test_gzip_of_nothing(gunzip: Callable[..., bytes]) -> None:
    assert gunzip(gzip.compress(b"")) == b""
    with pytest.raises(TarError, match="ends early"):
        gunzip(b"")


@pytest.mark.parametrize("cut", [1, 4, 8, 9, 100, -11, -9, -1])
def test_truncated_gzip(gunzip: Callable[..., bytes], cut: int) -> None:
    with pytest.raises(TarError, match="ends early"):
        gunzip(COMPRESSED[Compression.GZIP][:-cut])


@pytest.mark.parametrize("behind", [b"x", b"rubbish" * 100, b"\0\0x", b"\x1f\x8b\x09"])
def test_rubbish_behind_gzip(gunzip: Callable[..., bytes], behind: bytes) -> None:
    with pytest.raises(TarError):
        gunzip(gzip.compress(b"one") + behind)


def test_wrong_checksum_of_gzip(gunzip: Callable[..., bytes]) -> None:
    for at in (-1, -5):
        bad = bytearray(gzip.compress(b"hello"))
        bad[at] ^= 1
        with pytest.raises(TarError, match="damaged"):
            gunzip(bytes(bad))


def test_fall_back_makes_gzip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compression, "_igzip", None)
    monkeypatch.setattr(_compression, "_deflate", zlib)
    for level in (None, 1, 9):
        data = joined(_compression.compress(in_pieces(DATA, 99_999), Compression.GZIP, level))
        assert gzip.decompress(data) == DATA


# --- zstd frames -----------------------------------------------------------------------------


def _frames() -> Iterator[bytes]:
    content = DATA[250_000:600_000]
    for checksum in (False, True):
        for size in (False, True):
            compressor = zstandard.ZstdCompressor(
                level=1, write_checksum=checksum, write_content_size=size
            )
            yield compressor.compress(content)
            yield compressor.compress(b"small")
            yield compressor.compress(b"")
    yield b"\x5a\x2a\x4d\x18" + (300).to_bytes(4, "little") + bytes(300)
    yield b"\x50\x2a\x4d\x18" + bytes(4)


@pytest.mark.parametrize("sizes", [(1,), (1 << 20,), (3, 4, 1000)])
def test_frames_are_followed(sizes: tuple[int, ...]) -> None:
    ends, at = {0}, 0
    frames = list(_frames())
    for frame in frames:
        at += len(frame)
        ends.add(at)
    follower = ZstdFrames()
    at = 0
    for piece in in_pieces(b"".join(frames), *sizes):
        follower.feed(piece)
        at += len(piece)
        assert follower.complete == (at in ends)


def test_several_frames() -> None:
    frames = list(_frames())
    whole = b"".join(frames)
    content = b"".join(
        zstandard.ZstdDecompressor().decompressobj().decompress(frame)
        for frame in frames
        if frame.startswith(b"\x28")
    )
    for sizes in ((1 << 20,), (1000,)):
        assert joined(decompress(in_pieces(whole, *sizes))) == content


@pytest.mark.parametrize("cut", [1, 4, 5, 1000])
def test_truncated_zstd(cut: int) -> None:
    with pytest.raises(TarError, match="ends early"):
        joined(decompress([COMPRESSED[Compression.ZSTD][:-cut]]))


def test_wrong_checksum_of_zstd() -> None:
    bad = bytearray(COMPRESSED[Compression.ZSTD])
    bad[-1] ^= 1
    with pytest.raises(TarError, match="damaged"):
        joined(decompress([bytes(bad)]))


def test_rubbish_behind_zstd() -> None:
    with pytest.raises(TarError, match="damaged"):
        joined(decompress([COMPRESSED[Compression.ZSTD] + b"rubbish and more"]))


def test_a_window_that_would_eat_memory() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(DATA) + compressor.flush()
    with pytest.raises(TarError, match="damaged"):
        joined(decompress([frame]))


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_reserved_flags_of_a_gzip_header(size: int) -> None:
    damaged = bytearray(COMPRESSED[Compression.GZIP])
    damaged[3] |= 0x20
    for stream in (damaged, COMPRESSED[Compression.GZIP] + damaged):
        with pytest.raises(TarError, match="damaged"):
            joined(decompress(in_pieces(bytes(stream), size)))


def test_a_damaged_stream_is_not_held_for_ever() -> None:
    """zstandard's objects are closed to the garbage collector: no cycle may go through them."""

    class Pieces:
        def __init__(self) -> None:
            self.error: TarError | None = None

        def __iter__(self) -> Iterator[bytes]:
            assert self.error is None
            yield b"\x28\xb5\x2f\xfd" + bytes(100)

    pieces = Pieces()
    with pytest.raises(TarError) as caught:
        b"".join(decompress(iter(pieces)))
    pieces.error = caught.value
    left = weakref.ref(pieces)
    del pieces, caught
    gc.collect()
    assert left() is None
