"""The log: frames in, lines out."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pycontainer.containers import LogLine
from pycontainer.containers._logs import read_log

FRAME = struct.Struct("<QB3xI")


def frame(stream: int, data: bytes, time_ns: int = 1_000_000_000) -> bytes:
    return FRAME.pack(time_ns, stream, len(data)) + data


def lines(path: Path) -> list[LogLine]:
    return list(read_log(path, follow=False, ended=lambda: True))


def test_lines_are_put_together_from_frames_of_each_stream(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(frame(1, b"he") + frame(2, b"oops\n") + frame(1, b"llo\r\nrest", 2_000_000_000))
    assert lines(log) == [
        LogLine("stderr", 1.0, b"oops"),
        LogLine("stdout", 1.0, b"hello"),
        LogLine("stdout", 2.0, b"rest"),
    ]


def test_a_frame_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(frame(1, b"whole\n") + frame(1, b"cut off\n")[:-3])
    assert [line.data for line in lines(log)] == [b"whole"]


def test_a_container_that_never_wrote_has_an_empty_log(tmp_path: Path) -> None:
    assert lines(tmp_path / "none") == []


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=30)), max_size=20))
def test_no_byte_is_lost_however_the_output_was_cut(
    tmp_path_factory: object, pieces: list[tuple[int, bytes]]
) -> None:
    log = tmp_path_factory.mktemp("log") / "log"  # type: ignore[attr-defined]
    log.write_bytes(b"".join(frame(stream, data) for stream, data in pieces))
    for number, name in ((1, "stdout"), (2, "stderr")):
        written = b"".join(data for stream, data in pieces if stream == number)
        read = [line.data for line in lines(log) if line.stream == name]
        expected = written.replace(b"\r\n", b"\n").split(b"\n")
        if not expected[-1]:
            expected.pop()
        assert read == expected
