"""The registry client: the verbs of the OCI distribution specification 1.1 for one registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Self
from urllib.parse import urlencode

from pycontainer.errors import (
    DigestMismatch,
    ManifestNotFound,
    RegistryBlobNotFound,
    RegistryError,
    SpecError,
)
from pycontainer.oci import Descriptor, Digest, media_types, parse_manifest
from pycontainer.registry._download import Download
from pycontainer.registry._names import check_repository, check_target
from pycontainer.registry._referrers import drop_referrer, list_referrers, note_referrer
from pycontainer.registry._requests import Request
from pycontainer.registry._stream_upload import StreamUpload
from pycontainer.registry._tags import list_tags
from pycontainer.registry._upload import BlobUpload
from pycontainer.registry._upload_session import UploadSession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from pycontainer.registry._credentials import Credentials
    from pycontainer.registry._requests import Answer
    from pycontainer.registry._stream_upload import Stream
    from pycontainer.registry._tls import Tls

__all__ = ["ALL_MANIFESTS", "Client", "FetchedManifest"]

ALL_MANIFESTS: Final = (
    media_types.OCI_INDEX,
    media_types.OCI_MANIFEST,
    media_types.DOCKER_LIST,
    media_types.DOCKER_MANIFEST,
)
"""Every kind of manifest that `pycontainer.oci` reads."""

_OK: Final = frozenset({200})
_CREATED: Final = frozenset({201})
_LARGEST_LIST: Final = 32 << 20


class FetchedManifest(NamedTuple):
    """A manifest as a registry serves it.

    Attributes:
        data: Its bytes, which have that digest.
        media_type: What the registry announced it as.
        digest: In the algorithm it was asked for, else SHA-256.
    """

    data: bytes
    media_type: str
    digest: Digest


class Client:
    """Talks to one registry; a context manager, safe for many threads.

    Nothing is sent before the first call. Calls that read are repeated, with growing pauses and as
    the registry's ``Retry-After`` asks, when a failure may pass.

    Args:
        host: The registry as references name it: ``docker.io``, ``localhost:5000``. A scheme in
            front (``http://``, ``https://``) is taken as it is; ``unix:///path`` is a Unix socket.
        insecure: Whether plain HTTP may be spoken. None: only to this machine, where neither `tls` nor
            ``certs.d`` says how to speak TLS to it. True: also to other hosts. False: never.
        timeout: Seconds for a connection to come up, and for each wait for bytes.
        pool: How many idle connections are kept.
        credentials: Who asks; None for whom Docker's configuration names.
        tls: How to speak TLS; None for what this machine has configured (``certs.d``).

    Raises:
        ValueError: `host` is not a host.
    """

    def __init__(
        self,
        host: str,
        *,
        insecure: bool | None = None,
        timeout: float = 30.0,
        pool: int = 16,
        credentials: Credentials | None = None,
        tls: Tls | None = None,
    ) -> None:
        # urllib3 takes longer to import than all the rest: only who talks to registries waits.
        from pycontainer.registry._access import authorized_transport
        from pycontainer.registry._hosts import base_url
        from pycontainer.registry._tls import is_configured

        path = host.removeprefix("unix://") if host.startswith("unix:///") else None
        self.host = host if path is None else "localhost"
        name = self.host.rpartition("://")[2].rstrip("/")
        plain = insecure if path is None else True
        if plain is None and (tls is not None or is_configured(name)):
            plain = False
        self._transport, self._authorizer = authorized_transport(
            base_url(self.host, insecure=plain),
            host=name,
            insecure=bool(insecure),
            timeout=timeout,
            connections=pool,
            credentials=credentials,
            tls=tls,
            path=path,
        )

    @property
    def url(self) -> str:
        """The registry's base URL, without ``/v2/``."""
        return self._transport.base

    def close(self) -> None:
        """Close the idle connections. The client may be closed twice, and used again."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._transport.base!r})"

    def use(self, credentials: Credentials | None) -> None:
        """Ask in somebody else's name from now on; None: in that of whom it was made for."""
        self._authorizer.forget(credentials)

    def ping(self) -> None:
        """Check that a registry answers there ("Determining Support").

        Raises:
            RegistryError: It does not, or wants credentials.
        """
        self._transport.call(Request("GET", "/v2/", f"find a registry at {self.url}"))

    # --- manifests ---------------------------------------------------------------------------

    def get_manifest(
        self, repository: str, reference: str, accept: Sequence[str] = ALL_MANIFESTS
    ) -> FetchedManifest:
        """Read a manifest by tag or digest ("Pulling manifests").

        Returns:
            Its bytes, checked against the digest that was asked for or announced.

        Raises:
            DigestMismatch: They are other bytes.
            SpecError: They are of Docker's retired schema 1.
            ManifestNotFound: The registry has no such repository, tag or manifest.
            RegistryError: The registry cannot be reached, refuses, or answers against the rules.
        """
        answer = self._manifest("GET", repository, reference, accept)
        wanted = self._announced(answer, reference)
        algorithm = wanted.algorithm if wanted is not None else "sha256"
        found = Digest.of(answer.data, algorithm)
        if wanted is not None and found != wanted:
            if _media_type(answer) in media_types.DOCKER_SCHEMA_1:
                # Its digest leaves out the signatures inside: it is refused for what it is.
                parse_manifest(answer.data, _media_type(answer))
            raise DigestMismatch(
                f"manifest {reference} of {self.host}/{repository} should be {wanted}, "
                f"its bytes are {found}"
            )
        return FetchedManifest(answer.data, _media_type(answer), found)

    def head_manifest(
        self, repository: str, reference: str, accept: Sequence[str] = ALL_MANIFESTS
    ) -> Descriptor | None:
        """Describe a manifest without reading it; None if there is none.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or answers against the rules.
        """
        try:
            answer = self._manifest("HEAD", repository, reference, accept)
        except ManifestNotFound:
            return None
        digest = self._announced(answer, reference)
        size = answer.headers.get("content-length", "")
        if digest is not None and size.isdigit():
            return Descriptor(_media_type(answer), digest, int(size))
        # Digest and length are optional on HEAD in the specification's older versions.
        data, media_type, digest = self.get_manifest(repository, reference, accept)
        return Descriptor(media_type, digest, len(data))

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> Digest:
        """Store a manifest under a tag or its digest ("Pushing Manifests").

        Returns:
            Its digest.

        Raises:
            DigestMismatch: The registry says that it stored other bytes.
            RegistryError: It cannot be reached or refuses, for example because a blob is missing.
        """
        answer = self._transport.call(
            Request(
                "PUT",
                _manifest_path(repository, reference),
                f"write manifest {self.host}/{repository} {reference}",
                expect=_CREATED,
                headers={"Content-Type": media_type},
                body=data,
                scopes=_scopes(repository, "pull,push"),
                repeatable=True,
                missing=ManifestNotFound,
            )
        )
        stored = self._announced(answer, reference)
        digest = Digest.of(data, stored.algorithm if stored is not None else "sha256")
        if stored is not None and stored != digest:
            raise DigestMismatch(f"{self.host} stored manifest {stored}, it was sent {digest}")
        if b'"subject"' in data and "oci-subject" not in answer.headers:
            document = parse_manifest(data, media_type or None)
            if document.subject is not None:  # the registry knows nothing of subjects
                note_referrer(self, repository, document)
        return digest

    def delete_manifest(self, repository: str, reference: str) -> None:
        """Delete a tag, or a manifest with all its tags, by its digest ("Deleting manifests").

        Raises:
            ManifestNotFound: It is not there.
            RegistryError: The registry cannot be reached or does not allow it.
        """
        subject = self._subject(repository, reference) if ":" in reference else None
        what = f"delete manifest {self.host}/{repository} {reference}"
        self._delete(_manifest_path(repository, reference), what, repository, ManifestNotFound)
        if subject is not None:
            drop_referrer(self, repository, subject, Digest.parse(reference))

    def _subject(self, repository: str, reference: str) -> Digest | None:
        fetched = self.get_manifest(repository, reference)
        try:
            document = parse_manifest(fetched.data, fetched.media_type or None)
        except SpecError:
            return None
        return None if document.subject is None else document.subject.digest

    def _delete(self, path: str, what: str, repository: str, missing: type[RegistryError]) -> None:
        request = Request(
            "DELETE",
            path,
            what,
            expect=frozenset({200, 202, 204}),
            scopes=_scopes(repository, "delete,pull"),
            missing=missing,
        )
        self._transport.call(request)

    def referrers(
        self, repository: str, subject: Digest, artifact_type: str | None = None
    ) -> list[Descriptor]:
        """What is about a manifest, such as signatures ("Listing Referrers").

        Args:
            repository: Where to look.
            subject: The manifest, which need not be there itself.
            artifact_type: Only what is of this type.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or answers against the rules.
        """
        check_repository(repository)
        return list_referrers(self, self._transport.call, repository, subject, artifact_type)

    def _manifest(
        self, method: str, repository: str, reference: str, accept: Sequence[str]
    ) -> Answer:
        return self._transport.call(
            Request(
                method,
                _manifest_path(repository, reference),
                f"read manifest {self.host}/{repository} {reference}",
                expect=_OK,
                headers={"Accept": ", ".join(accept)},
                scopes=_scopes(repository, "pull"),
                missing=ManifestNotFound,
            )
        )

    def _announced(self, answer: Answer, reference: str) -> Digest | None:
        """The digest that was asked for, else the one that the answer announces."""
        if ":" in reference:
            return Digest.parse(reference)
        header = answer.headers.get("docker-content-digest")
        if header is None:
            return None
        try:
            return Digest.parse(header)
        except SpecError as error:
            raise RegistryError(
                f"{self.host} announces a wrong digest: {error}", status=answer.status
            ) from error

    # --- blobs -------------------------------------------------------------------------------

    def blob_exists(self, repository: str, digest: Digest) -> bool:
        """Whether a repository holds a blob.

        Raises:
            RegistryError: The registry cannot be reached or refuses.
        """
        return self._holds(repository, digest, "pull")

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Size of a blob, None if a repository does not hold it.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or does not say.
        """
        answer = self._head_blob(repository, digest, "pull")
        if answer.status == 404:
            return None
        size = answer.headers.get("content-length", "")
        if not size.isdigit():
            raise RegistryError(f"{self.host} does not tell the size of blob {digest}", status=200)
        return int(size)

    def _holds(self, repository: str, digest: Digest, actions: str) -> bool:
        return self._head_blob(repository, digest, actions).status == 200

    def _head_blob(self, repository: str, digest: Digest, actions: str) -> Answer:
        request = Request(
            "HEAD",
            _blob_path(repository, digest),
            f"look for blob {digest} in {self.host}/{repository}",
            expect=frozenset({200, 404}),
            scopes=_scopes(repository, actions),
        )
        return self._transport.call(request)

    def open_blob(self, repository: str, descriptor: Descriptor) -> Download:
        """Begin to read a blob ("Pulling blobs").

        Returns:
            A context manager whose ``read(n)`` gives the bytes as they come, over as many
            connections as it takes. They are not verified: read them through
            `pycontainer.content.VerifiedReader` or hash them.

        Raises:
            RegistryBlobNotFound: The repository does not hold it.
            RegistryError: The registry cannot be reached or refuses.
        """
        return self.download(repository, descriptor).begin()

    def download(self, repository: str, descriptor: Descriptor) -> Download:
        """The same, but nothing is sent, and nothing can fail, before the first read."""
        request = Request(
            "GET",
            _blob_path(repository, descriptor.digest),
            f"read blob {descriptor.digest} of {self.host}/{repository}",
            expect=_OK,
            scopes=_scopes(repository, "pull"),
            missing=RegistryBlobNotFound,
        )
        transport = self._transport
        return Download(request, descriptor.size, transport.open, transport.retry)

    def delete_blob(self, repository: str, digest: Digest) -> None:
        """Take a blob from a repository ("Deleting Blobs").

        Raises:
            RegistryBlobNotFound: It is not there.
            RegistryError: The registry cannot be reached or does not allow it.
        """
        what = f"delete blob {digest} of {self.host}/{repository}"
        self._delete(_blob_path(repository, digest), what, repository, RegistryBlobNotFound)

    def push_blob(
        self,
        repository: str,
        descriptor: Descriptor,
        open: Callable[[], BinaryIO],  # noqa: A002  (what it does)
        *,
        progress: Callable[[int], None] | None = None,
        mount_from: str | None = None,
        chunk: int | None = None,
    ) -> bool:
        """Store a blob unless the repository has it ("Pushing blobs").

        It is sent in one request; where that breaks, the registry is asked what it has, and the
        rest follows. A registry that finds a request too large gets chunks.

        Args:
            repository: Where to.
            descriptor: The blob's digest and size.
            open: Opens the blob, seekable; called only if its bytes must be sent. A file that has a
                descriptor is sent by the kernel (sendfile) over plain HTTP.
            progress: Called with the number of bytes just sent, now and then.
            mount_from: A repository of the same registry that may hold the blob already.
            chunk: Bytes of a request at most; None for all at once.

        Returns:
            True if the bytes were sent; False if the blob was there or could be mounted.

        Raises:
            SizeMismatch: The opened file is shorter than the descriptor says.
            RegistryError: The registry cannot be reached or refuses.
        """
        if self._holds(repository, descriptor.digest, "pull,push"):  # one token for all that comes
            return False
        upload = BlobUpload(
            self._transport,
            repository,
            descriptor,
            _scopes(repository, "pull,push"),
            progress,
            chunk,
        )
        query = ""
        scopes: tuple[str, ...] = ()
        if mount_from is not None:
            asked = {"mount": str(descriptor.digest), "from": check_repository(mount_from)}
            query, scopes = "?" + urlencode(asked), _scopes(mount_from, "pull")
        if not upload.begin(query, scopes):
            return False
        with open() as file:
            upload.send(file)
        return True

    def push_stream(
        self,
        repository: str,
        stream: Stream,
        media_type: str = "application/octet-stream",
        *,
        progress: Callable[[int], None] | None = None,
        chunk: int = 8 << 20,
    ) -> Descriptor:
        """Store what a stream gives, whose size and digest are not known before its end.

        It is sent in chunks ("Pushing a blob in chunks"), of which one is in memory at a time. Where a
        request breaks, the registry is asked what it has, and the rest of the chunk follows.

        Args:
            repository: Where to.
            stream: Its ``read(n)`` gives up to `n` bytes, none at the end; a pipe will do.
            media_type: What it is, for the descriptor.
            progress: Called with the number of bytes that have just arrived, chunk by chunk.
            chunk: Bytes of a request; more if the registry asks for more, fewer if it refuses so many.

        Returns:
            The blob's media type, digest (SHA-256) and size.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or has forgotten the upload.
        """
        scopes = _scopes(check_repository(repository), "pull,push")
        session = UploadSession(self._transport, repository, scopes)
        return StreamUpload(session, chunk, progress).send(stream, media_type)

    # --- tags --------------------------------------------------------------------------------

    def tags(
        self, repository: str, *, page: int | None = None, after: str | None = None
    ) -> list[str]:
        """All tags of a repository, page by page, in the registry's order ("Listing Tags").

        Args:
            repository: Which one.
            page: How many the registry shall send at once; None for as many as it likes.
            after: Only those that come after this one.

        Raises:
            ManifestNotFound: There is no such repository.
            RegistryError: The registry cannot be reached, refuses, or answers against the rules.
        """
        check_repository(repository)
        return list_tags(self._transport, repository, page=page, after=after)


def _scopes(repository: str, actions: str) -> tuple[str, ...]:
    return (f"repository:{repository}:{actions}",)


def _manifest_path(repository: str, reference: str) -> str:
    return f"/v2/{check_repository(repository)}/manifests/{check_target(reference)}"


def _blob_path(repository: str, digest: Digest) -> str:
    return f"/v2/{check_repository(repository)}/blobs/{digest}"


def _media_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip()
