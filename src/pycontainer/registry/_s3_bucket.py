"""Where in an object store a registry's content is."""

from __future__ import annotations

from attrs import frozen

from pycontainer.errors import RegistryError

__all__ = ["S3Bucket"]


@frozen
class S3Bucket:
    """A bucket of an object store that speaks S3, in which `serve` keeps a registry.

    Many servers may serve one bucket at once. Who asks is what boto3 finds: the environment
    (``AWS_ACCESS_KEY_ID`` and so on), ``~/.aws``, or the machine's role.

    Attributes:
        name: The bucket, which must be there.
        prefix: Begins the keys of all objects of the registry; ``team/registry``.
        endpoint: URL of the object store; None for Amazon's.
        region: Its region; None for what boto3 finds.
    """

    name: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None

    @classmethod
    def parse(cls, url: str, *, endpoint: str | None = None) -> S3Bucket:
        """Read ``s3://bucket/prefix``.

        Raises:
            RegistryError: It is no such URL.
        """
        name, _, prefix = url.removeprefix("s3://").partition("/")
        if not url.startswith("s3://") or not name:
            raise RegistryError(f"{url!r} names no bucket", remedy="s3://bucket/prefix")
        return cls(name, prefix.strip("/"), endpoint)

    def __str__(self) -> str:
        return "/".join(part for part in (f"s3://{self.name}", self.prefix) if part)
