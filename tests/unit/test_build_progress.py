"""A build's events for people: line by line, and as a picture."""

from __future__ import annotations

import io
import re
import sys

import pytest

from pycontainer.build import (
    Builder,
    Event,
    LiveProgress,
    PlainProgress,
    VertexCached,
    VertexFinished,
    VertexLog,
    VertexStarted,
)
from pycontainer.content import Store
from pycontainer.errors import BuildError, UnsupportedFeature
from pycontainer.oci import Digest

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")


def plain(*events: Event) -> list[str]:
    """The lines, with all times 0."""
    file = io.StringIO()
    progress = PlainProgress(file)
    for event in events:
        progress(event)
    return re.sub(r"\d+\.\d{3} ", "0.000 ", file.getvalue()).splitlines()


def test_steps_take_turns() -> None:
    assert plain(
        VertexStarted(ONE, "FROM base"),
        VertexCached(ONE, "FROM base"),
        VertexStarted(TWO, "RUN make"),
        VertexFinished(ONE, "FROM base", 0.04),
        VertexLog(TWO, "RUN make", "stdout", "built\n"),
        VertexFinished(TWO, "RUN make", 1.25),
    ) == [
        "#1 FROM base",
        "#1 CACHED",
        "",
        "#2 RUN make",
        "",
        "#1 DONE 0.0s",
        "",
        "#2 0.000 built",
        "#2 DONE 1.2s",
    ]


def test_lines_are_whole_and_of_one_stream() -> None:
    def log(stream: str, text: str) -> VertexLog:
        return VertexLog(ONE, "RUN x", stream, text)  # type: ignore[arg-type]

    assert plain(
        VertexStarted(ONE, "RUN x"),
        log("stdout", "be"),
        log("stderr", "warn"),
        log("stdout", "gin\nmiddle\ne"),
        log("stderr", "ing\r\n"),
        log("stdout", "10%\r20%\r30%"),
        VertexFinished(ONE, "RUN x", 0.0),
    ) == [
        "#1 RUN x",
        "#1 0.000 begin",
        "#1 0.000 middle",
        "#1 0.000 warning",
        "#1 0.000 30%",
        "#1 DONE 0.0s",
    ]


def test_failures_and_caches_from_elsewhere() -> None:
    assert plain(
        VertexStarted(ONE, "COPY a /"),
        VertexCached(ONE, "COPY a /", imported=True),
        VertexFinished(ONE, "COPY a /", 0.0, "first\nsecond"),
    ) == ["#1 COPY a /", "#1 CACHED (from elsewhere)", "#1 ERROR 0.0s: first", "#1   second"]


def test_a_build_in_lines(
    store: Store, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BuildError):
        Builder.scratch().copy("missing", "/").build(store=store, progress=PlainProgress())
    shown = capsys.readouterr().err
    assert re.search(r"^#\d COPY missing /$", shown, re.MULTILINE)
    assert re.search(r"^#\d ERROR 0\.\ds: copy 'missing'", shown, re.MULTILINE)


# --- the picture -----------------------------------------------------------------------------


def test_without_rich_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(UnsupportedFeature, match="rich") as caught:
        LiveProgress()
    assert "pycontainer[progress]" in str(caught.value.remedy)


def test_a_build_as_a_picture() -> None:
    console_module = pytest.importorskip("rich.console")
    console = console_module.Console(file=io.StringIO(), width=40, color_system=None)
    terminal = console_module.Console(file=io.StringIO(), force_terminal=True, width=40, height=9)
    with LiveProgress(terminal) as progress:
        progress(VertexStarted(ONE, "FROM [bold]base"))
        progress(VertexCached(ONE, "FROM [bold]base"))
        progress(VertexFinished(ONE, "FROM [bold]base", 0.1))
        progress(VertexStarted(TWO, "RUN make"))
        progress(VertexLog(TWO, "RUN make", "stdout", "old\n" * 9 + "line 1\nline"))
        running = _shown(console, progress)
        progress(VertexFinished(TWO, "RUN make", 2.0, "failed"))
    assert re.match(r"\[\+\] Building \d\.\ds \(1/2\)$", running[0])
    assert running[1].split() == ["=>", "CACHED", "FROM", "[bold]base", "0.1s"]
    assert running[2].split()[:3] == ["=>", "RUN", "make"]
    assert [line.strip() for line in running[3:]] == ["old", "old", "old", "line 1", "line"]
    failed = _shown(console, progress)
    assert "(2/2)" in failed[0]
    assert len(failed) == 3 + 11  # all of the output that was kept
    assert failed[2].split() == ["=>", "RUN", "make", "2.0s"]


def _shown(console: object, progress: LiveProgress) -> list[str]:
    """The picture at this moment, as lines without trailing blanks."""
    with console.capture() as capture:  # type: ignore[attr-defined]
        console.print(progress._picture())  # type: ignore[attr-defined]
    return [line.rstrip() for line in capture.get().splitlines()]
