"""Redirects, retries and failures of the client's transport, with scripted answers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

import pytest
from attrs import field, frozen
from urllib3 import HTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from pycontainer.errors import (
    ManifestNotFound,
    RegistryError,
    RegistryUnavailable,
    Unauthorized,
)
from pycontainer.registry._body import FileBody
from pycontainer.registry._hosts import base_url, is_loopback, same_origin
from pycontainer.registry._requests import Request
from pycontainer.registry._retry import Failed, Retry, retry_after
from pycontainer.registry._transport import Transport

BASE = "http://127.0.0.1:5000"


@frozen
class Sent:
    """A request that reached the wire."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: object


@frozen
class Wire:
    """Stands in for the connection pools: answers from a list, and remembers what was sent."""

    answers: list[HTTPResponse | Exception]
    sent: list[Sent] = field(factory=list)

    def request(self, method: str, url: str, *, body: Any, headers: Any, **_: Any) -> HTTPResponse:
        self.sent.append(Sent(method, url, headers, body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def answer(status: int = 200, body: bytes = b"", **headers: str) -> HTTPResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    stream = io.BytesIO(body)
    return HTTPResponse(stream, headers=named, status=status, preload_content=False)


def transport(
    *answers: HTTPResponse | Exception, base: str = BASE, insecure: bool = False
) -> tuple[Transport, Wire, list[float]]:
    sleeps: list[float] = []
    made = Transport(base, insecure=insecure, retry=Retry(sleep=sleeps.append))
    wire = Wire(list(answers))
    made._pools = wire  # type: ignore[assignment]
    return made, wire, sleeps


GET = Request("GET", "/v2/a", "read it", headers={"Authorization": "Basic secret", "Accept": "x"})


class TestRedirects:
    def test_same_origin_keeps_credentials(self) -> None:
        made, wire, _ = transport(answer(307, Location="/v2/b"), answer(200, b"here"))
        assert made.call(GET).data == b"here"
        assert [sent.url for sent in wire.sent] == [f"{BASE}/v2/a", f"{BASE}/v2/b"]
        assert wire.sent[1].headers["Authorization"] == "Basic secret"

    @pytest.mark.parametrize(
        "elsewhere",
        ["http://localhost:5000/x", "http://127.0.0.1:5001/x", "https://127.0.0.1:5000/"],
    )
    def test_other_origin_gets_no_credentials(self, elsewhere: str) -> None:
        made, wire, _ = transport(answer(302, Location=elsewhere), answer())
        made.call(GET)
        assert wire.sent[1].url == elsewhere
        assert "Authorization" not in wire.sent[1].headers
        assert wire.sent[1].headers["Accept"] == "x"

    def test_credentials_stay_away_on_the_way_back_from_elsewhere(self) -> None:
        made, wire, _ = transport(
            answer(302, Location="https://cdn/x"), answer(302, Location="https://cdn/y"), answer()
        )
        made.call(GET)
        assert ["Authorization" in sent.headers for sent in wire.sent] == [True, False, False]

    def test_see_other_becomes_a_get(self) -> None:
        made, wire, _ = transport(answer(303, Location="/done"), answer())
        made.call(Request("PUT", "/v2/a", "write it", body=b"data"))
        assert (wire.sent[1].method, wire.sent[1].body) == ("GET", None)

    def test_circle(self) -> None:
        made, _, _ = transport(*[answer(302, Location="/v2/a") for _ in range(9)])
        with pytest.raises(RegistryError, match="redirected more than 5 times"):
            made.call(GET)

    @pytest.mark.parametrize("target", ["ftp://x/", "file:///etc/passwd", "http://[", "https:///x"])
    def test_nowhere(self, target: str) -> None:
        made, wire, _ = transport(answer(302, Location=target))
        with pytest.raises(RegistryError, match="sent on to"):
            made.call(GET)
        assert len(wire.sent) == 1

    @pytest.mark.parametrize("target", ["http://registry.example/x", "http://127.0.0.1/x"])
    def test_from_tls_to_plain(self, target: str) -> None:
        made, wire, _ = transport(answer(302, Location=target), base="https://registry.example")
        with pytest.raises(RegistryError, match="plain HTTP"):
            made.call(GET)
        assert len(wire.sent) == 1

    def test_file_is_not_sent_twice(self) -> None:
        made, wire, _ = transport(answer(307, Location="/elsewhere"))
        body = FileBody(io.BytesIO(b"data"), 4)
        with pytest.raises(RegistryError) as error:
            made.call(Request("PUT", "/v2/a", "write it", body=body))
        assert (error.value.status, len(wire.sent)) == (307, 1)


class TestRetries:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_read_again(self, status: int) -> None:
        made, _, sleeps = transport(answer(status), answer(status), answer(200, b"x"))
        assert made.call(GET).data == b"x"
        assert len(sleeps) == 2
        assert sleeps[0] < sleeps[1]

    def test_waits_as_told(self) -> None:
        made, _, sleeps = transport(answer(503, Retry_After="7"), answer())
        made.call(GET)
        assert sleeps == [7.0]

    def test_does_not_wait_for_ever(self) -> None:
        made, _, sleeps = transport(answer(503, Retry_After="86400"))
        with pytest.raises(RegistryUnavailable):
            made.call(GET)
        assert sleeps == []

    def test_gives_up(self) -> None:
        made, wire, _ = transport(*[answer(503) for _ in range(9)])
        with pytest.raises(RegistryUnavailable) as error:
            made.call(GET)
        assert (error.value.status, len(wire.sent)) == (503, 4)

    @pytest.mark.parametrize("status", [500, 502, 503])
    def test_writes_only_once(self, status: int) -> None:
        made, wire, _ = transport(answer(status), answer())
        with pytest.raises(RegistryError):
            made.call(Request("POST", "/v2/a", "write it"))
        assert len(wire.sent) == 1

    def test_writes_again_when_nothing_was_done(self) -> None:
        refused = NewConnectionError(None, "refused")  # type: ignore[arg-type]
        made, wire, _ = transport(refused, answer(429), answer())
        made.call(Request("POST", "/v2/a", "write it"))
        assert len(wire.sent) == 3

    def test_writes_again_what_may_be_repeated(self) -> None:
        made, wire, _ = transport(ProtocolError("cut"), answer())
        made.call(Request("PUT", "/v2/a", "write it", body=b"x", repeatable=True))
        assert [sent.body for sent in wire.sent] == [b"x", b"x"]

    def test_file_is_sent_again_only_if_nothing_was(self) -> None:
        class Reading(Wire):
            def request(self, method: str, url: str, *, body: Any, **rest: Any) -> HTTPResponse:
                if isinstance(self.answers[0], HTTPResponse):
                    list(body)
                return super().request(method, url, body=body, **rest)

        refused = NewConnectionError(None, "refused")  # type: ignore[arg-type]
        made, _, sleeps = transport()
        made._pools = Reading([refused, answer(429)])  # type: ignore[assignment]
        body = FileBody(io.BytesIO(b"data"), 4)
        with pytest.raises(RegistryError) as error:
            made.call(Request("PUT", "/v2/a", "write it", body=body))
        assert (error.value.status, len(sleeps)) == (429, 1)

    def test_refusal_with_a_broken_body_keeps_its_status(self) -> None:
        made, _, _ = transport(answer(400, b"half", Content_Length="8"))
        with pytest.raises(RegistryError) as error:
            made.call(GET)
        assert error.value.status == 400

    def test_answer_cut_in_the_middle_is_read_again(self) -> None:
        cut = answer(200, b"half", Content_Length="8")
        made, _, _ = transport(cut, answer(200, b"complete"))
        assert made.call(GET).data == b"complete"

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("3", 3.0),
            (" 0 ", 0.0),
            (formatdate(1_000_010, usegmt=True), 10.0),
            (formatdate(999_000, usegmt=True), 0.0),
            ("soon", None),
            ("Wed, 21 Oct 2015 07:28:" + "9" * 40, None),
            ("-1", None),
            ("", None),
            (None, None),
        ],
    )
    def test_retry_after(self, header: str | None, seconds: float | None) -> None:
        assert retry_after(header, now=1_000_000) == seconds

    def test_pauses_are_bounded(self) -> None:
        sleeps: list[float] = []
        retry = Retry(attempts=20, sleep=sleeps.append)
        failed = Failed(RegistryError("no"))
        assert all(retry.again(attempt, failed, repeatable=True) for attempt in range(1, 20))
        assert not retry.again(20, failed, repeatable=True)
        assert max(sleeps) == retry.longest


class TestFailures:
    @pytest.mark.parametrize(
        ("cause", "words"),
        [
            (ReadTimeoutError(None, "/", "late"), "silent"),  # type: ignore[arg-type]
            (ConnectTimeoutError(None, "late"), "no connection came up in time"),
            (NewConnectionError(None, "refused"), "no connection: .*refused"),  # type: ignore[arg-type]
            (ProtocolError("reset by peer"), "reset"),
            (ConnectionResetError("reset by peer"), "reset"),
        ],
    )
    def test_no_connection(self, cause: Exception, words: str) -> None:
        made, _, _ = transport(*[cause] * 4)
        with pytest.raises(RegistryUnavailable, match=f"cannot read it: .*{words}") as error:
            made.call(GET)
        assert error.value.__cause__ is cause
        assert error.value.status == 0

    def test_bad_certificate_is_final(self) -> None:
        made, wire, _ = transport(SSLError("self-signed certificate"))
        with pytest.raises(RegistryUnavailable, match="certificate"):
            made.call(GET)
        assert len(wire.sent) == 1

    @pytest.mark.parametrize("status", [401, 403])
    def test_credentials_wanted(self, status: int) -> None:
        body = b'{"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}'
        header = 'Bearer realm="https://auth.example/token",service="r"'
        made, _, _ = transport(answer(status, body, WWW_Authenticate=header))
        with pytest.raises(Unauthorized, match="who are you") as error:
            made.call(GET)
        assert (error.value.status, error.value.code) == (status, "UNAUTHORIZED")
        assert "bearer (https://auth.example/token)" in (error.value.remedy or "")
        assert "secret" not in str(error.value)

    def test_missing_is_what_the_request_says(self) -> None:
        made, _, _ = transport(answer(404, b"<html>"))
        with pytest.raises(ManifestNotFound) as error:
            made.call(Request("GET", "/v2/a", "read it", missing=ManifestNotFound))
        assert (error.value.status, error.value.code) == (404, "")

    def test_too_large(self) -> None:
        made, _, _ = transport(answer(200, b"x" * 11))
        with pytest.raises(RegistryError, match="larger than 10 bytes"):
            made.call(Request("GET", "/v2/a", "read it", largest=10))

    def test_exactly_large_enough(self) -> None:
        made, _, _ = transport(answer(200, b"x" * 10))
        assert made.call(Request("GET", "/v2/a", "read it", largest=10)).data == b"x" * 10

    def test_body_that_breaks_off(self) -> None:
        made, _, _ = transport(answer(200, b"half", Content_Length="8"))
        with made.open(GET) as stream:
            assert stream.read(4) == b"half"
            with pytest.raises(RegistryUnavailable, match="cannot read it"):
                stream.read(4)

    def test_plain_http_elsewhere(self) -> None:
        made, wire, _ = transport(base="http://registry.example")
        with pytest.raises(RegistryError, match="plain HTTP") as error:
            made.call(GET)
        assert "insecure=True" in (error.value.remedy or "")
        assert wire.sent == []

    def test_plain_http_elsewhere_when_asked_for(self) -> None:
        made, _, _ = transport(answer(200, b"x"), base="http://registry.example", insecure=True)
        assert made.call(GET).data == b"x"


class TestHosts:
    @pytest.mark.parametrize(
        ("host", "insecure", "url"),
        [
            ("docker.io", None, "https://registry-1.docker.io"),
            ("registry.example", None, "https://registry.example"),
            ("registry.example:5000", True, "http://registry.example:5000"),
            ("localhost:5000", None, "http://localhost:5000"),
            ("localhost:5000", False, "https://localhost:5000"),
            ("127.0.0.2", None, "http://127.0.0.2"),
            ("[::1]:5000", None, "http://[::1]:5000"),
            ("[2001:db8::1]", None, "https://[2001:db8::1]"),
            ("https://localhost:5000", None, "https://localhost:5000"),
            ("http://registry.example/", None, "http://registry.example"),
        ],
    )
    def test_base_url(self, host: str, insecure: bool | None, url: str) -> None:
        assert base_url(host, insecure=insecure) == url

    @pytest.mark.parametrize(
        "host", ["", "a/b", "user@host", "ftp://host", "http://", "a b", "host:port", "[::1", "?"]
    )
    def test_no_host(self, host: str) -> None:
        with pytest.raises(ValueError, match="not a registry's host"):
            base_url(host, insecure=None)

    def test_loopback(self) -> None:
        assert all(map(is_loopback, ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]")))
        assert not any(
            map(is_loopback, ("localhost.example", "10.0.0.1", "example", "", "0.0.0.0"))
        )

    def test_origin(self) -> None:
        assert same_origin("http://a/x", "http://a:80/y")
        assert not same_origin("http://a", "https://a")
