"""The parts of the distribution protocol that need no connection."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pycontainer.errors import InvalidReference, SpecError
from pycontainer.oci import Digest
from pycontainer.registry._challenge import Challenge, parse_challenges
from pycontainer.registry._codes import ApiError, ReportedError, format_errors, parse_errors
from pycontainer.registry._names import check_repository, check_target
from pycontainer.registry._pages import next_link, page_of
from pycontainer.registry._ranges import chunk_range, received_range, requested_range

DIGEST = Digest.of(b"")


def test_import_waits_for_no_http_library() -> None:
    program = "import sys, pycontainer.registry; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not {"urllib3", "tornado", "asyncio", "ssl"} & set(done.stdout.decode().split())


class TestErrors:
    def test_body_reads_back(self) -> None:
        error = ApiError("NAME_UNKNOWN", "no such repository", detail={"name": "a"})
        expected = ReportedError("NAME_UNKNOWN", "no such repository", {"name": "a"})
        assert parse_errors(format_errors(error)) == (expected,)
        assert error.status == 404

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>502</html>",
            b"\xff",
            b"[]",
            b'{"errors": {}}',
            b'{"errors": [7, {"code": 7}, {}]}',
            b"[" * 100_000,
        ],
    )
    def test_other_bodies_report_nothing(self, body: bytes) -> None:
        assert parse_errors(body) == ()

    def test_members_may_be_missing(self) -> None:
        assert parse_errors(b'{"errors": [{"code": "DENIED", "message": null}]}') == (
            ReportedError("DENIED"),
        )
        assert str(ReportedError("DENIED", "go away")) == "DENIED: go away"


class TestPages:
    @pytest.mark.parametrize(
        ("header", "target"),
        [
            ('</v2/a/tags/list?n=2&last=b>; rel="next"', "/v2/a/tags/list?n=2&last=b"),
            ("<http://r/x>;rel=next", "http://r/x"),
            ('<p>; rel="prev", <n>; title="a, b"; REL="first NEXT"', "n"),
            ('<p>; rel="previous"', None),
            ("", None),
            (None, None),
            ("garbage; rel=next", None),
        ],
    )
    def test_next_link(self, header: str | None, target: str | None) -> None:
        assert next_link(header) == target

    def test_pages_follow_each_other(self) -> None:
        names = ["a", "b", "c", "d", "e"]
        page, link = page_of(names, "/list", n="2", last=None)
        assert (page, next_link(link)) == (["a", "b"], "/list?n=2&last=b")
        assert page_of(names, "/list", n="2", last="b")[0] == ["c", "d"]
        assert page_of(names, "/list", n="2", last="d") == (["e"], None)
        assert page_of(names, "/list", n="5", last=None) == (names, None)

    def test_last_need_not_exist(self) -> None:
        assert page_of(["a", "c"], "/list", n=None, last="b") == (["c"], None)

    def test_none_wanted(self) -> None:
        assert page_of(["a"], "/list", n="0", last=None) == ([], None)

    @pytest.mark.parametrize("n", ["-1", "x", "", "1.5", "²", "9" * 5000])
    def test_no_count(self, n: str) -> None:
        with pytest.raises(ApiError) as error:
            page_of(["a"], "/list", n=n, last=None)
        assert error.value.code == "PAGINATION_NUMBER_INVALID"


class TestRanges:
    @pytest.mark.parametrize(
        ("header", "part"),
        [
            ("bytes=0-0", (0, 1)),
            ("bytes=2-5", (2, 6)),
            ("bytes=2-", (2, 10)),
            ("bytes=-3", (7, 10)),
            ("bytes=-30", (0, 10)),
            ("bytes=8-100", (8, 10)),
            (None, None),
            ("bytes=-", None),
            ("bytes=5-2", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
            ("bytes=0-" + "9" * 5000, None),
        ],
    )
    def test_of_a_blob(self, header: str | None, part: tuple[int, int] | None) -> None:
        assert requested_range(header, 10) == part

    @pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0"])
    def test_outside_a_blob(self, header: str) -> None:
        with pytest.raises(ApiError) as error:
            requested_range(header, 10)
        assert error.value.status == 416

    @pytest.mark.parametrize(
        ("header", "size"), [("5-9", 5), ("bytes 5-9/*", 5), ("bytes=5-5", 1), (None, None)]
    )
    def test_of_a_chunk(self, header: str | None, size: int | None) -> None:
        assert chunk_range(header, 5) == size

    @pytest.mark.parametrize(
        "header", ["0-4", "6-9", "5-4", "5", "", "five-nine", "5-" + "9" * 5000]
    )
    def test_chunk_that_does_not_fit(self, header: str) -> None:
        with pytest.raises(ApiError) as error:
            chunk_range(header, 5)
        assert (error.value.status, error.value.code) == (416, "BLOB_UPLOAD_INVALID")

    def test_received(self) -> None:
        assert [received_range(n) for n in (0, 1, 10)] == ["0-0", "0-0", "0-9"]


class TestChallenges:
    def test_bearer(self) -> None:
        header = 'Bearer realm="https://auth/token",service="reg",scope="repository:a:pull,push"'
        expected = {
            "realm": "https://auth/token",
            "service": "reg",
            "scope": "repository:a:pull,push",
        }
        assert parse_challenges([header]) == (Challenge("bearer", expected),)
        assert parse_challenges([header])[0].parameters == expected

    def test_several_in_one_header(self) -> None:
        found = parse_challenges(
            [r'Basic realm="a \"b\"", Negotiate abc==, Bearer realm=x , a = b']
        )
        assert [c.scheme for c in found] == ["basic", "negotiate", "bearer"]
        assert [dict(c.parameters) for c in found] == [
            {"realm": 'a "b"'},
            {},
            {"realm": "x", "a": "b"},
        ]

    def test_several_headers(self) -> None:
        assert [c.scheme for c in parse_challenges(["Basic", "Bearer realm=x"])] == [
            "basic",
            "bearer",
        ]

    @pytest.mark.parametrize("header", ["", " , ", '"', "=", "\x00"])
    def test_garbage(self, header: str) -> None:
        assert parse_challenges([header]) == ()


class TestNames:
    @pytest.mark.parametrize("name", ["a", "a/b", "a-b/c.d/e_f", "library/alpine", "a" * 200])
    def test_repository(self, name: str) -> None:
        assert check_repository(name) == name

    @pytest.mark.parametrize(
        "name",
        ["", "A", "a/", "/a", "a//b", "..", "a/../b", "a/_tags", "a:b", "a@b", "a b", "a" * 256],
    )
    def test_no_repository(self, name: str) -> None:
        with pytest.raises(InvalidReference):
            check_repository(name)

    def test_target(self) -> None:
        assert check_target("v1.0_x-Y") == "v1.0_x-Y"
        assert check_target(str(DIGEST)) == DIGEST

    @pytest.mark.parametrize("text", ["", "-a", ".", "a/b", "~x", "a" * 129, "sha256:12", "x:y"])
    def test_no_target(self, text: str) -> None:
        with pytest.raises(SpecError):
            check_target(text)
