"""References: what Docker's users write, completed as Docker completes it."""

from __future__ import annotations

import pytest

from pycontainer.errors import InvalidReference
from pycontainer.oci import Digest, Reference

HEX = "0123456789abcdef" * 4
SHA = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        (f"alpine@{SHA}", f"docker.io/library/alpine@{SHA}", f"alpine@{SHA}"),
        (f"alpine:1@{SHA}", f"docker.io/library/alpine:1@{SHA}", f"alpine:1@{SHA}"),
        ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a:latest"),
        (f"localhost:5000/a@{SHA}", f"localhost:5000/a@{SHA}", f"localhost:5000/a@{SHA}"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("host:5000/a:b", "host:5000/a:b", "host:5000/a:b"),
        ("Host/a", "Host/a:latest", "Host/a:latest"),
        ("a.b/c", "a.b/c:latest", "a.b/c:latest"),
        ("127.0.0.1:80/x", "127.0.0.1:80/x:latest", "127.0.0.1:80/x:latest"),
        ("[::1]/x", "[::1]/x:latest", "[::1]/x:latest"),
        ("[fe80::1]:5000/x/y:T", "[fe80::1]:5000/x/y:T", "[fe80::1]:5000/x/y:T"),
        ("docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io/localhost/x:latest"),
        ("docker.io/a.b/x", "docker.io/a.b/x:latest", "docker.io/a.b/x:latest"),
        ("a__b/c--d/e.f_g", "docker.io/a__b/c--d/e.f_g:latest", "a__b/c--d/e.f_g:latest"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128, "a:" + "t" * 128),
        (HEX[:63], f"docker.io/library/{HEX[:63]}:latest", f"{HEX[:63]}:latest"),
    ],
)
def test_references_are_completed_and_shortened(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == full
    assert reference.familiar == familiar
    assert Reference.parse(full) == reference == Reference.parse(familiar)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not a repository"),
        (":tag", "is not a repository"),
        ("a:", "no tag after the colon"),
        ("a:-b", "'-b' is not a tag"),
        ("a:" + "t" * 129, "is not a tag"),
        ("a:ä", "is not a tag"),
        ("a:b\n", "is not a tag"),
        ("a:b:c", "is not a repository"),
        ("a@", "not a digest"),
        ("a@sha256:1", "sha256 has 64 hexadecimal digits"),
        (f"a@{SHA}@{SHA}", "not a digest"),
        (f"@{SHA}", "is not a repository"),
        ("Alpine", "must be in lower case"),
        ("user/App", "must be in lower case"),
        ("a b", "is not a repository"),
        ("a/", "is not a repository"),
        ("/a", "is not a repository"),
        ("a//b", "is not a repository"),
        ("a...b", "is not a repository"),
        ("a___b", "is not a repository"),
        ("-a", "is not a repository"),
        ("a-", "is not a repository"),
        ("a/../b", "is not a repository"),
        ("https://a.b/c", "'https:' is not a host"),
        ("a.b:port/c", "'a.b:port' is not a host"),
        ("-a.b/c", "'-a.b' is not a host"),
        ("a..b/c", "'a..b' is not a host"),
        ("[::1/c", "is not a host"),
        ("a.b/" + "c" * 256, "longer than 255"),
        (HEX, "an image id"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(InvalidReference, match=complaint) as caught:
        Reference.parse(text)
    assert caught.value.remedy


def test_the_longest_name_is_255_characters() -> None:
    assert Reference.parse("a.b/" + "c" * 255).repository == "c" * 255


def test_a_reference_has_parts() -> None:
    reference = Reference.parse(f"localhost:5000/a/b:1@{SHA}")
    assert reference == Reference("localhost:5000", "a/b", "1", Digest.parse(SHA))
    assert reference.name == "localhost:5000/a/b"
    assert reference.target == SHA
    assert Reference.parse("a:1").target == "1"


def test_tags_and_digests_are_exchanged() -> None:
    digest = Digest.parse(SHA)
    reference = Reference.parse("a:1")
    assert reference.with_digest(digest).familiar == f"a:1@{SHA}"
    assert reference.with_digest(digest).with_tag("2").familiar == "a:2"
    with pytest.raises(InvalidReference, match="is not a tag"):
        reference.with_tag("/")


@pytest.mark.parametrize(
    "parts",
    [
        ("docker.io", "alpine", "1"),
        ("docker.io", "library/alpine"),
        ("index.docker.io", "a/b", "1"),
        ("host", "a", "1"),
        ("a.b", "C", "1"),
        ("a.b/c", "d", "1"),
        ("", "a", "1"),
        ("a.b", "c", ""),
    ],
)
def test_parts_that_read_back_otherwise_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidReference):
        Reference(*parts)  # type: ignore[arg-type]


def test_references_have_an_order_and_a_hash() -> None:
    references = [Reference.parse(text) for text in ("b", "a:2", "a:1")]
    assert [r.familiar for r in sorted(references)] == ["a:1", "a:2", "b:latest"]
    assert Reference.parse("b") in set(references)
