"""A registry as users hold it: images go there and come from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import evolve

from pycontainer.content import Store
from pycontainer.errors import ImageError, ManifestNotFound, RegistryError
from pycontainer.images import _copy, _sign, _transfer
from pycontainer.images._convert import converted
from pycontainer.images._image import Image
from pycontainer.images._platforms import parse_platform
from pycontainer.images._progress import Progress, one_at_a_time
from pycontainer.images._reach import Reach
from pycontainer.images._served import StoreStorage
from pycontainer.images._trust import Trust
from pycontainer.oci import Descriptor, Digest, Platform, Reference
from pycontainer.registry import (
    ANONYMOUS,
    Credentials,
    DockerConfig,
    RegistryServer,
    Tls,
    serve,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from pycontainer.images._convert import Schema
    from pycontainer.images._index import ImageIndex
    from pycontainer.images._sign import PublicKey, Signature, SigningKey
    from pycontainer.images._trust import Policy
    from pycontainer.registry import S3Bucket, ServerOptions

__all__ = ["Registry"]

_NOT_BY_TAG: Final = frozenset({400, 405})
"""How registries answer that delete manifests by digest alone."""


class Registry:
    """A registry; a context manager. Nothing is sent before the first call.

    Args:
        host: As references name it, such as ``registry.local:5000``; a scheme in front is taken as
            it is; ``unix:///path`` is a Unix socket.
        insecure: Whether plain HTTP may be spoken; None: only to this machine.
        timeout: Seconds for a connection to come up, and for each wait for bytes.
        credentials: Who asks; None for whom Docker's configuration names (``$DOCKER_CONFIG`` or
            ``~/.docker``, with its credential helpers).
        tls: How to speak TLS; None for what this machine has configured (``/etc/docker/certs.d`` and the
            like), else with the system's trust.
        mirrors: Hosts that are asked before the registry by whatever reads images, in this order;
            one that cannot help is passed over.
    """

    def __init__(
        self,
        host: str,
        *,
        insecure: bool | None = None,
        timeout: float = 30.0,
        credentials: Credentials | None = None,
        tls: Tls | None = None,
        mirrors: Sequence[str] = (),
    ) -> None:
        reach = Reach(
            insecure=insecure, timeout=timeout, credentials=credentials, tls=tls, mirrors=mirrors
        )
        self._client = reach.client(host)
        self.host = self._client.host.rpartition("://")[2].rstrip("/")
        self._source = reach.source(self._client)

    def login(
        self, username: str = "", password: str = "", *, token: str = "", save: bool = True
    ) -> None:
        """Check credentials with the registry, use them from now on, and keep them as Docker does.

        They are kept by the credential helper that Docker's configuration names, else in that
        configuration itself, which only this user may read.

        Args:
            username: Who asks.
            password: The password, or an access token that stands for one.
            token: An identity token instead.
            save: Whether to keep them for other programs and later ones.

        Raises:
            Unauthorized: The registry refuses them.
            RegistryError: It cannot be reached, or they cannot be kept.
        """
        credentials = Credentials(username, password, token)
        self._client.use(credentials)
        try:
            self._client.ping()
        except BaseException:
            self._client.use(None)
            raise
        if save:
            DockerConfig.default().save(self.host, credentials)

    def logout(self) -> None:
        """Ask in nobody's name from now on, and forget the credentials that Docker's way keeps.

        Raises:
            RegistryError: They cannot be forgotten.
        """
        self._client.use(ANONYMOUS)
        DockerConfig.default().erase(self.host)

    def pull(
        self,
        name: str,
        *,
        platform: str | Platform | None = None,
        policy: Policy = "always",
        store: Store | None = None,
        progress: Progress | None = None,
        within: float | None = None,
        signed_by: PublicKey | None = None,
        accept: Callable[[Reference, Digest], None] | None = None,
    ) -> Image:
        """Bring an image; errors as for `Image.pull`.

        Args:
            name: Its repository with tag or digest, such as ``team/app:1``.
            platform: Which of several, such as ``linux/arm64``; None for this machine's, ``all`` for
                all of them (see `Image.pull`).
            policy: Whether to ask the registry: always, only if the image is missing in the store, or
                never, which finds it or fails.
            store: Where to; left out, the default store.
            progress: Called with events, one at a time.
            within: Seconds for the whole; None for as many as it takes.
            signed_by: Refuse it unless it has a signature by this key.
            accept: Called with its name and the digest that this stands for, before anything else is
                fetched; raises to refuse it.

        Raises:
            SignatureError: It has no such signature.
        """
        return Image._pull(  # noqa: SLF001  (the same as Image.pull, by connections that are kept)
            self._source,
            self._reference(name),
            store or Store.default(),
            platform=platform,
            policy=policy,
            progress=progress,
            within=within,
            trust=Trust(signed_by=signed_by, accept=accept),
        )

    def push(
        self,
        image: Image | ImageIndex,
        name: str,
        *,
        progress: Progress | None = None,
        within: float | None = None,
        schema: Schema | None = None,
    ) -> Reference:
        """Send an image, or an index with all its images; errors as for `Image.push`.

        Args:
            image: What is sent.
            name: Repository and tag it gets, such as ``team/app:1``.
            progress: Called with events, one at a time.
            within: Seconds for the whole; None for as many as it takes.
            schema: ``docker`` sends an image's manifest in the words of Docker's schema 2, ``oci`` in
                OCI's; None for as it is, as indexes always are.

        Returns:
            The full name, with the digest that it has there.
        """
        reference = self._reference(name)
        tell = one_at_a_time(progress)
        if isinstance(image, Image):
            digest = _transfer.push(
                self._client,
                converted(image.manifest, schema),
                reference,
                image.store,
                progress=tell,
                seconds=within,
            )
        elif schema is not None:
            raise ImageError("an index is sent as it is", remedy="push its images one by one")
        else:
            digest = _transfer.push_index(
                self._client, image.index, reference, image.store, progress=tell, seconds=within
            )
        image.store.record("image", "push", str(reference), {"name": str(reference)})
        return reference.with_digest(digest)

    def tags(self, repository: str) -> list[str]:
        """All tags of a repository.

        Raises:
            ManifestNotFound: There is no such repository.
            RegistryError: The registry cannot be reached or refuses.
        """
        return self._client.tags(self._reference(repository).repository)

    def copy(
        self,
        name: str,
        target: str,
        *,
        to: Registry | None = None,
        platform: str | Platform | None = None,
        progress: Progress | None = None,
        within: float | None = None,
    ) -> Reference:
        """Copy an image as it is, with all platforms of it, into another repository or registry.

        Nothing is unpacked or stored here; what is there already is not sent, and what one registry
        has in another repository is only mounted.

        Args:
            name: Its repository with tag or digest, here.
            target: Repository and tag it gets.
            to: The registry it gets them in; None for this one.
            platform: Only the image for that; None for all there are.
            progress: Called with events, one at a time; config and layers count as layers.
            within: Seconds for the whole; None for as many as it takes.

        Returns:
            The full name, with the digest, which is the same there.

        Raises:
            ManifestNotFound: There is no such image.
            PlatformNotFound: There is none for that platform.
            RegistryError: A registry cannot be reached or refuses.
        """
        goal = (to or self)._reference(target)  # noqa: SLF001
        digest = _copy.copy(
            self._client,
            self._reference(name),
            (to or self)._client,  # noqa: SLF001
            goal,
            platform=parse_platform(platform),
            progress=one_at_a_time(progress),
            seconds=within,
        )
        return goal.with_digest(digest)

    def sign(
        self, name: str, key: SigningKey, *, where: Literal["tag", "referrers"] = "tag"
    ) -> Digest:
        """Sign an image, so that ``cosign verify --key`` and `verify` find it right.

        Args:
            name: Its repository with tag or digest; what the tag stands for now is signed, of an index
                all of it.
            key: What to sign with.
            where: Under the tag where cosign looks first, or as a referrer of the image.

        Returns:
            Digest of the manifest that holds the signature.

        Raises:
            ManifestNotFound: There is no such image.
            RegistryError: The registry cannot be reached or refuses.
        """
        reference = self._reference(name)
        return _sign.sign(self._client, reference, self._described(reference), key, where)

    def verify(self, name: str, key: PublicKey) -> list[Signature]:
        """The signatures of an image that were made with a key.

        Args:
            name: Its repository with tag or digest.
            key: The key's public half.

        Raises:
            SignatureError: There is none.
            ManifestNotFound: There is no such image.
            RegistryError: The registry cannot be reached or refuses.
        """
        reference = self._reference(name)
        digest = self._described(reference).digest
        return _sign.verified(self._client, reference.repository, digest, key)

    def _described(self, reference: Reference) -> Descriptor:
        found = self._client.head_manifest(reference.repository, reference.target)
        if found is None:
            raise ManifestNotFound(f"{self.host} has no {reference}", status=404)
        return found

    def delete(self, name: str) -> None:
        """Delete a tag, or by digest an image with all its tags.

        Raises:
            ManifestNotFound: It is not there.
            RegistryError: The registry cannot be reached or does not allow it.
        """
        reference = self._reference(name)
        try:
            self._client.delete_manifest(reference.repository, reference.target)
        except RegistryError as error:
            if reference.digest is None and error.status in _NOT_BY_TAG:
                error.remedy = "it may delete by digest alone, an image with all its tags"
            raise

    def referrers(self, name: str, *, artifact_type: str | None = None) -> list[Descriptor]:
        """What is about an image: signatures, lists of its parts and the like.

        Args:
            name: Its repository with tag or digest.
            artifact_type: Only what is of this type.

        Raises:
            ManifestNotFound: There is no such tag.
            RegistryError: The registry cannot be reached or refuses.
        """
        reference = self._reference(name)
        digest = reference.digest or self._described(reference).digest
        return self._client.referrers(reference.repository, digest, artifact_type)

    @staticmethod
    def serve(
        place: str | os.PathLike[str] | S3Bucket | Store,
        *,
        address: tuple[str, int] = ("127.0.0.1", 0),
        options: ServerOptions | None = None,
    ) -> RegistryServer:
        """Serve a registry of one's own, from a directory, a bucket or a store.

        A store's images are served under the names that people write, ``app:1`` or
        ``ghcr.io/team/app:1``, without a copy of them; what is pushed becomes images of the store.

        Args:
            place: The directory, made if it is not there; a bucket of an object store; or the store,
                which must stay open.
            address: Host and port; port 0 for a free one.
            options: Users, TLS, limits and the like; None for an open registry.

        Raises:
            RegistryError: The address cannot be listened at, the directory cannot be written, or the
                certificate not be read, or a store would be a cache of another registry.
            UnsupportedFeature: The extra ``server`` is not installed.
        """
        storage = StoreStorage(place) if isinstance(place, Store) else place
        return serve(storage, address=address, options=options)

    def close(self) -> None:
        """Close the connections. The registry may be closed twice, and used again."""
        self._source.close()

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
        return f"Registry({self.host!r})"

    def _reference(self, name: str) -> Reference:
        """A name in this registry, with its host in front or without."""
        bare = name.removeprefix(f"{self.host}/")
        if self.host == "docker.io":
            return Reference.parse(bare)
        return evolve(Reference.parse(f"localhost/{bare}"), registry=self.host)
