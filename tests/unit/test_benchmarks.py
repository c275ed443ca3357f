"""What the benchmarks compute and write, without measuring anything that takes time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("isal")

from benchmarks import cases, growth, memory, profile, report, results
from benchmarks.measure import Bounds, Case, Ratio, Samples, Side, compare
from benchmarks.peers import BenchmarkError, images
from benchmarks.roofline import Part, critical_path, total

from pycontainer.layers import Entry, Kind, read_entries, unpack, write_tar
from pycontainer.layers._entry import AtHand

ROOT = Path(__file__).parents[2]
DOCUMENTATION = ROOT / "docs" / "benchmarks"


def test_sides_take_turns_and_the_first_one_changes() -> None:
    log: list[str] = []

    def side(name: str) -> Side:
        return Side(
            name,
            lambda: log.append(name),
            before=lambda: log.append("("),
            after=lambda: log.append(")"),
        )

    ours, peer = compare(side("a"), side("b"), rounds=2, warm_up=1)
    assert "".join(log) == "(a)(b)" + "(a)(b)" + "(b)(a)"
    assert (ours.name, peer.name) == ("a", "b")
    assert len(ours.wall) == len(peer.wall) == len(ours.cpu) == 2


def test_what_daemons_use_counts() -> None:
    used = iter([1.0, 4.0])
    samples = Samples("a")
    samples.take(Side("a", lambda: None, daemons=lambda: next(used)))
    assert samples.cpu == [pytest.approx(3, abs=0.1)]


def test_sides_that_do_not_do_the_same_are_refused() -> None:
    ours = Side("ours", lambda: None, count=lambda: 7)
    peer = Side("theirs", lambda: None, count=lambda: 8)
    with pytest.raises(BenchmarkError, match="ours made 7, theirs 8"):
        compare(ours, peer, rounds=1)


def test_a_side_is_cleared_up_when_it_fails() -> None:
    cleared: list[bool] = []

    def fail() -> None:
        raise BenchmarkError("no")

    with pytest.raises(BenchmarkError):
        Samples("a").take(Side("a", fail, after=lambda: cleared.append(True)))
    assert cleared == [True]


def test_a_ratio_is_that_of_the_medians_within_its_interval() -> None:
    ratio = Ratio.of([1, 2, 3, 2, 2], [4, 4, 5, 3, 4])
    assert ratio.median == 0.5
    assert 0.2 <= ratio.low <= 0.5 <= ratio.high <= 1
    assert str(Ratio(0.034567, 0.03, 1.2345)) == "0.035 (0.03 to 1.2)"


@pytest.mark.parametrize(
    ("parts", "least"),
    [
        ([Part("a", 4), Part("b", 1)], 4),  # the long one alone
        ([Part("a", 4, ways=8), Part("b", 1)], 2.5),  # both processors, all the time
        ([], 0),
    ],
)
def test_the_critical_path_on_two_cores(parts: list[Part], least: float) -> None:
    assert critical_path(parts) == least


def test_a_profile_is_read_by_what_the_objects_are() -> None:
    said = "# Overhead\n   50.00%  [kernel.kallsyms]\n   30.00%  libcrypto.so.3\n   9.5%  [vdso]\n"
    assert profile.parse_shares(said) == {
        "the kernel": 0.5,
        "sha256 (OpenSSL)": 0.3,
        "other": 0.095,
    }


# --- growth ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _measured(directory: Path, size: int) -> Iterator[tuple[Side, Side]]:
    assert not list(directory.iterdir())
    yield (Side("twice", lambda: float(2 * size)), Side("square", lambda: float(size * size)))


def _curve(value: str) -> growth.Curve:
    rate = growth.Rate("{:.0f} a piece", 1)
    return growth.Curve("c", "C", "", _measured, "pieces", (1, 10, 100), rate, 2, value, None)


def test_a_curve_has_the_values_of_each_side_at_each_size(tmp_path: Path) -> None:
    twice, square = growth.trace(_curve("apples"), tmp_path, rounds=2)
    assert (twice.name, twice.sizes, twice.values) == (
        "twice",
        [1, 10, 100],
        [[2, 2], [20, 20], [200, 200]],
    )
    assert growth.exponent(square.sizes, square.medians()) == 2
    assert growth.line(twice.sizes, twice.medians()) == pytest.approx((2, 0))
    assert twice.cpu == []


def test_a_curve_of_seconds_has_processor_time(tmp_path: Path) -> None:
    (twice, _) = growth.trace(_curve("seconds"), tmp_path, rounds=1)
    assert [len(cpu) for cpu in twice.cpu] == [1, 1, 1]


def test_a_curve_of_something_else_says_what_one_more_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = _curve("apples")
    monkeypatch.setitem(growth.CURVES, curve.name, curve)
    traced = results.Traced.of(curve, growth.trace(curve, tmp_path, rounds=1))
    assert "apples. twice: 2 a piece, exponent 1.00. square:" in report.section(traced)


def test_an_empty_file_has_no_place_on_a_logarithmic_axis() -> None:
    assert growth.exponent([0, 10, 100, 1000], [7, 1, 10, 100]) == 1


def test_rates() -> None:
    assert growth.Rate("{:.0f} µs a file", 1e6)(3e-5) == "30 µs a file"
    assert growth.Rate("{:.0f} MB/s", 1e-6, inverse=True)(2e-9) == "500 MB/s"


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_the_layers_that_memory_is_measured_with_are_layers(tmp_path: Path, codec: str) -> None:
    stream = memory._Stream(memory._compressed(3, codec))
    assert unpack(stream, tmp_path).entries == 1
    assert (tmp_path / "file").stat().st_size == 3 << 20


# --- images ----------------------------------------------------------------------------------


def test_a_tar_is_shared_out_among_layers_that_stand_alone(tmp_path: Path) -> None:
    content = bytes(100_000)
    entries = [Entry(b"d", Kind.DIRECTORY), Entry(b"d/e", Kind.DIRECTORY)]
    entries += [
        Entry(name, Kind.FILE, size=len(content), content=AtHand(content))
        for name in (b"d/e/1", b"d/e/2", b"d/e/3")
    ]
    entries.append(Entry(b"d/link", Kind.HARD_LINK, link=b"d/e/1"))
    tar = tmp_path / "layer.tar"
    tar.write_bytes(b"".join(write_tar(entries)))
    names = [
        [entry.path for entry in read_entries(iter([path.read_bytes()]))]
        for path in images.split(tar, 3)
    ]
    assert names == [
        [b"d", b"d/e", b"d/e/1", b"d/link"],
        [b"d", b"d/e", b"d/e/2"],
        [b"d", b"d/e", b"d/e/3"],
    ]


# --- results and pages -----------------------------------------------------------------------


def _result() -> results.Compared:
    ours, peer = (
        Samples("ours", [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]),
        Samples("theirs", [8.0] * 3, [4.0] * 3),
    )
    case = Case("name", "Title", "What is done.", _unused, 3, bounds=Bounds(0.3, 0.4))  # type: ignore[arg-type]
    result = results.Compared.of(case, (ours, peer))
    floor = (Part("inflate", 1.0), Part("files", 0.5, ways=64))
    return result.with_analysis(floor, {"write": 1.5}, {"the kernel": 0.6, "other": 0.001})


def _unused() -> None:
    raise AssertionError


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    result = _result()
    results.write(result, tmp_path / "new")
    assert results.read("name", tmp_path / "new") == result
    assert results.read("other", tmp_path / "new") is None


def test_a_section_says_what_was_reached_and_what_was_asked() -> None:
    text = report.section(_result())
    assert (
        "Time: **0.25 (0.12 to 0.38)**, asked ≤ 0.3; processor: **0.5 (0.5 to 0.5)**, asked ≤ 0.4."
        in text
    )
    assert "| sum | 1500 |" in text
    assert (
        "less than 1000 ms of time and 1500 ms of processor; ours takes 2.00 and 1.33 times as much"
        in text
    )
    assert "each was busy for so many of 2000 ms: write 1500." in text
    assert "processor time: the kernel 60%." in text


def test_the_documentation_shows_what_was_measured() -> None:
    found = report.results(DOCUMENTATION)
    assert found, f"nothing of {cases.__name__} was measured"
    assert (DOCUMENTATION / "results.md").read_text() == report.page(found)
    readme = (ROOT / "README.md").read_text()
    assert report.replace_figures(readme, found) == readme


def test_sums() -> None:
    assert total([Part("a", 1), Part("b", 2)]) == 3
