"""Laws of the distribution protocol's small parts, over any input."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pycontainer.registry._challenge import parse_challenges
from pycontainer.registry._codes import ApiError, parse_errors
from pycontainer.registry._hosts import base_url, same_origin
from pycontainer.registry._pages import next_link, page_of
from pycontainer.registry._ranges import chunk_range, received_range, requested_range
from pycontainer.registry._retry import retry_after

HEADERS = st.text(st.characters(codec="latin-1"), max_size=60)
NAMES = st.lists(st.from_regex(r"[a-z]{1,3}", fullmatch=True), unique=True).map(sorted)


@given(NAMES, st.integers(1, 5))
def test_pages_together_are_the_list(names: list[str], size: int) -> None:
    found: list[str] = []
    last: str | None = None
    while True:
        page, link = page_of(names, "/list", n=str(size), last=last)
        assert len(page) <= size
        found += page
        if link is None:
            break
        last = page[-1]
        assert next_link(link) == f"/list?n={size}&last={last}"
    assert found == names


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_ranges_lie_within_the_blob(size: int, first: int, last: int) -> None:
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        try:
            part = requested_range(header, size)
        except ApiError as error:
            assert error.status == 416  # noqa: PT017
        else:
            assert part is None or 0 <= part[0] < part[1] <= size


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_next_chunk_starts_where_the_upload_stands(offset: int, size: int) -> None:
    end = int(received_range(offset).partition("-")[2])
    assert chunk_range(f"{end + 1}-{end + size}", offset) == size


@given(HEADERS, st.binary(max_size=60))
def test_nothing_from_the_wire_breaks_a_parser(header: str, body: bytes) -> None:
    next_link(header)
    parse_challenges([header, f"Bearer {header}", f'Basic realm="{header}'])
    parse_errors(body)
    retry_after(header)
    for parse in (requested_range, chunk_range):
        try:
            parse(header, 10)
        except ApiError as error:
            assert error.status == 416  # noqa: PT017


@given(st.text(max_size=30))
def test_a_host_is_kept_or_refused(text: str) -> None:
    try:
        url = base_url(text, insecure=None)
    except ValueError:
        return
    assert same_origin(url, url)
    assert url.count("/") == 2
