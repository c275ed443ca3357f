"""Image references as Docker reads them (distribution/reference)."""

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
_LONGEST_NAME: Final = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG: Final = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)


@frozen(order=True)
class Reference:
    """The name of an image: registry, repository, and a tag or a digest or both.

    Attributes:
        registry: Host, with the port if any: ``docker.io``, ``localhost:5000``, ``[::1]:5000``.
        repository: Lower-case path in the registry, such as ``library/alpine``.
        tag: The tag, or None where only the digest counts.
        digest: The manifest's digest, or None.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference and complete it: ``alpine`` is ``docker.io/library/alpine:latest``.

        Raises:
            InvalidReference: It is none; the message says which part is wrong.
        """
        rest, at, digest_text = text.partition("@")
        try:
            digest = Digest.parse(digest_text) if at else None
        except SpecError as error:
            raise _invalid(text, str(error)) from error
        name, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag or tag.endswith("]"):
            name, tag = rest, ""
        elif not _TAG.fullmatch(tag):
            raise _invalid(text, f"{tag!r} is not a tag")
        registry, repository = _split(name)
        if registry == _DEFAULT_REGISTRY and "/" not in repository:
            repository = _OFFICIAL + repository
        _check_name(text, registry, repository)
        if not tag and digest is None:
            tag = "latest"
        return cls(registry, repository, tag or None, digest)

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The short form that people write; `parse` reads it back."""
        name = self.name
        if self.registry == _DEFAULT_REGISTRY:
            name = self.repository
            short = name.removeprefix(_OFFICIAL)
            if "/" not in short:
                name = short
        return name + self._suffix()

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest if there is one, else the tag."""
        return str(self.digest) if self.digest is not None else self.tag or "latest"

    def with_tag(self, tag: str) -> Reference:
        """The same repository under a tag, without a digest."""
        if not _TAG.fullmatch(tag):
            raise _invalid(f"{self.name}:{tag}", f"{tag!r} is not a tag")
        return evolve(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """The same repository and tag, fixed to one manifest."""
        return evolve(self, digest=digest)

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        return tag + (f"@{self.digest}" if self.digest is not None else "")

    def __str__(self) -> str:
        return self.name + self._suffix()


def _split(name: str) -> tuple[str, str]:
    """Registry and repository; a first part is a host only if it looks like one."""
    first, slash, rest = name.partition("/")
    looks_like_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not looks_like_host:
        return _DEFAULT_REGISTRY, name
    return (_DEFAULT_REGISTRY if first == _LEGACY_REGISTRY else first), rest


def _check_name(text: str, registry: str, repository: str) -> None:
    if not _REGISTRY.fullmatch(registry):
        raise _invalid(text, f"{registry!r} is not a host")
    if not _REPOSITORY.fullmatch(repository):
        if _REPOSITORY.fullmatch(repository.lower()):
            raise _invalid(text, f"the repository {repository!r} must be in lower case")
        raise _invalid(text, f"{repository!r} is not a repository")
    if len(registry) + 1 + len(repository) > _LONGEST_NAME:
        raise _invalid(text, f"the name is longer than {_LONGEST_NAME} characters")


def _invalid(text: str, why: str) -> InvalidReference:
    return InvalidReference(
        f"not an image reference: {text[:300]!r}: {why}",
        remedy="write it like name:tag, user/name, host:port/name:tag or name@sha256:…",
    )
