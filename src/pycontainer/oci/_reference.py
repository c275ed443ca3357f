"""Image references as Docker reads and completes them (the grammar of distribution/reference)."""

from __future__ import annotations

import re
from typing import Final

from attrs import evolve, frozen

from pycontainer.errors import InvalidReference, SpecError
from pycontainer.oci._digest import Digest

__all__ = ["Reference"]

_DEFAULT_REGISTRY: Final = "docker.io"
_LEGACY_REGISTRY: Final = "index.docker.io"
_OFFICIAL: Final = "library/"
_DEFAULT_TAG: Final = "latest"
_LONGEST_REPOSITORY: Final = 255

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE_ID: Final = re.compile(r"[a-f0-9]{64}")


@frozen(order=True)
class Reference:
    """The name of an image: registry, repository, and a tag or a digest or both.

    The parts are complete: what `parse` adds to a short name must be there.

    Attributes:
        registry: Host, with the port if any: ``docker.io``, ``localhost:5000``, ``[::1]:5000``.
        repository: Lower-case path in the registry, such as ``library/alpine``.
        tag: The tag, or None where only the digest counts.
        digest: The manifest's digest, or None.

    Raises:
        InvalidReference: The parts cannot be written as a reference that reads back as the same.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __attrs_post_init__(self) -> None:
        if fault := _fault(self.registry, self.repository, self.tag, self.digest):
            raise _invalid(str(self), fault)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference and complete it: ``alpine`` is ``docker.io/library/alpine:latest``.

        Raises:
            InvalidReference: It is none; the message says which part is wrong.
        """
        if _IMAGE_ID.fullmatch(text):
            raise InvalidReference(
                f"not an image reference but an image id: {text}",
                remedy=f"to name a manifest by its digest write repository@sha256:{text[:12]}…",
            )
        rest, at, digest_text = text.partition("@")
        try:
            digest = Digest.parse(digest_text) if at else None
        except SpecError as error:
            raise _invalid(text, error.message) from error
        name, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            name, tag = rest, "" if digest else _DEFAULT_TAG
        elif not tag:
            raise _invalid(text, "there is no tag after the colon")
        registry, repository = _split(name)
        if fault := _fault(registry, repository, tag or None, digest):
            raise _invalid(text, fault)
        return cls(registry, repository, tag or None, digest)

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The short form that people write; `parse` reads it back."""
        return self._familiar_name() + self._suffix()

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest if there is one, else the tag."""
        return str(self.digest) if self.digest is not None else self.tag or _DEFAULT_TAG

    def with_tag(self, tag: str) -> Reference:
        """The same repository under a tag, without a digest.

        Raises:
            InvalidReference: It is no tag.
        """
        return evolve(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """The same repository and tag, fixed to one manifest."""
        return evolve(self, digest=digest)

    def _familiar_name(self) -> str:
        if self.registry == _DEFAULT_REGISTRY:
            # A name whose first part looks like a host stays long.
            for short in (self.repository.removeprefix(_OFFICIAL), self.repository):
                if _split(short) == (self.registry, self.repository):
                    return short
        return self.name

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        return tag + (f"@{self.digest}" if self.digest is not None else "")

    def __str__(self) -> str:
        return self.name + self._suffix()


def _split(name: str) -> tuple[str, str]:
    """Registry and repository of a name; its first part is a host only if it looks like one."""
    first, slash, rest = name.partition("/")
    looks_like_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    registry, repository = (first, rest) if slash and looks_like_host else (_DEFAULT_REGISTRY, name)
    if registry == _LEGACY_REGISTRY:
        registry = _DEFAULT_REGISTRY
    if registry == _DEFAULT_REGISTRY and "/" not in repository:
        repository = _OFFICIAL + repository
    return registry, repository


def _fault(registry: str, repository: str, tag: str | None, digest: Digest | None) -> str | None:
    if not _REGISTRY.fullmatch(registry):
        return f"{registry!r} is not a host"
    if not _REPOSITORY.fullmatch(repository):
        if _REPOSITORY.fullmatch(repository.lower()):
            return f"the repository {repository!r} must be in lower case"
        return f"{repository!r} is not a repository"
    if len(repository) > _LONGEST_REPOSITORY:
        return f"the repository is longer than {_LONGEST_REPOSITORY} characters"
    if tag is not None and not _TAG.fullmatch(tag):
        return f"{tag!r} is not a tag"
    if tag is None and digest is None:
        return "there is neither a tag nor a digest"
    if _split(f"{registry}/{repository}") != (registry, repository):
        return f"that reads as {'/'.join(_split(f'{registry}/{repository}'))!r}"
    return None


def _invalid(text: str, why: str) -> InvalidReference:
    return InvalidReference(
        f"not an image reference: {text[:300]!r}: {why}",
        remedy="write it like name:tag, user/name, host:port/name:tag or name@sha256:…",
    )
