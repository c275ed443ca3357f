"""The errors that pycontainer raises.

Every error derives from `Error`, so ``except pycontainer.Error`` catches all that the library says
about the outside world. Each message tells what was tried, what was found and, where there is one,
the remedy. Programming mistakes (a wrong type, an impossible value) stay `TypeError` and `ValueError`.
"""

from __future__ import annotations

__all__ = [
    "AddressInUse",
    "BlobNotFound",
    "BuildError",
    "BuildStepFailed",
    "CommandNotExecutable",
    "CommandNotFound",
    "ContainerError",
    "ContainerFileError",
    "ContainerFileNotFound",
    "ContainerNotFound",
    "ContainerStateError",
    "ContentError",
    "DigestMismatch",
    "DockerfileError",
    "Error",
    "ImageError",
    "ImageInUse",
    "ImageNotFound",
    "InvalidReference",
    "LayerError",
    "ManifestNotFound",
    "NameInUse",
    "NetworkError",
    "NetworkInUse",
    "NetworkNotFound",
    "NoFreeAddress",
    "NotReady",
    "NotReadyInTime",
    "PlatformNotFound",
    "PortInUse",
    "PortUnreachable",
    "ProcessFailed",
    "RegistryBlobNotFound",
    "RegistryError",
    "RegistryTimeout",
    "RegistryUnavailable",
    "SignatureError",
    "SizeMismatch",
    "SnapshotError",
    "SpecError",
    "StartError",
    "StoreError",
    "SubnetInUse",
    "TarError",
    "TimeoutExpired",
    "Unauthorized",
    "UnknownUser",
    "UnsafePath",
    "UnsupportedFeature",
    "VolumeNotFound",
]


class Error(Exception):
    """Base of every error that pycontainer raises.

    Args:
        message: What was tried and what was found.
        remedy: What the reader can do about it, if anything is known to help.
    """

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} (remedy: {self.remedy})" if self.remedy else self.message

    def within(self, place: str) -> None:
        """Say before the message where it went wrong, such as in which layer."""
        self.message = f"{place}: {self.message}"


class UnsupportedFeature(Error):
    """The kernel, the machine or this user's rights refuse what was asked.

    Nobody's code is wrong: the same call works elsewhere. `feature` names what is missing, `reason`
    what the system answered.
    """

    def __init__(self, feature: str, reason: str, *, remedy: str | None = None) -> None:
        super().__init__(f"{feature} is not available: {reason}", remedy=remedy)
        self.feature = feature
        self.reason = reason


class TimeoutExpired(Error, TimeoutError):
    """A call did not finish within its ``timeout``; what it had begun was undone or ended."""


# --- documents and names ---------------------------------------------------------------------


class SpecError(Error):
    """A document breaks its specification.

    The one who wrote the document is at fault. `path` leads to the offending part, such as
    ``layers[2].digest``; it is empty when the document as a whole is unreadable.
    """

    def __init__(self, message: str, *, path: str = "", remedy: str | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message, remedy=remedy)
        self.path = path


class InvalidReference(SpecError):
    """A text is not an image reference."""


class PlatformNotFound(Error):
    """An index holds no image for the wanted platform."""


# --- content ---------------------------------------------------------------------------------


class ContentError(Error):
    """Stored or received bytes are not what they should be."""


class BlobNotFound(ContentError):
    """No blob of that digest is stored."""


class DigestMismatch(ContentError):
    """Bytes do not have the digest they were announced with."""


class SizeMismatch(ContentError):
    """There are more or fewer bytes than were announced."""


class StoreError(ContentError):
    """A store cannot be opened or used: wrong owner, unknown version, damaged database."""


# --- layers and snapshots --------------------------------------------------------------------


class LayerError(Error):
    """A layer cannot be read, written or applied."""


class TarError(LayerError):
    """A tar stream is damaged, truncated or of a kind that is not supported."""


class UnsafePath(LayerError):
    """An entry names a path that leads out of its root. Nothing was written there."""


class SnapshotError(Error):
    """Layers cannot be stacked, mounted or compared."""


# --- images and registries -------------------------------------------------------------------


class ImageError(Error):
    """An image cannot be made, loaded, saved or removed."""


class ImageNotFound(ImageError):
    """The store has no image of that name or digest."""


class SignatureError(ImageError):
    """An image is not signed as it should be, or a key cannot be used. Nothing of the image was unpacked."""


class ImageInUse(ImageError):
    """An image cannot be deleted while containers or other names need it."""


class RegistryError(Error):
    """A registry refused a request or answered against the distribution specification.

    `status` is the HTTP status (0 if there was no answer); `code` the error code of the
    distribution specification, such as ``MANIFEST_UNKNOWN``, or empty; `retry_after` the seconds that the
    registry asked to wait before another try, None if it did not.
    """

    retry_after: float | None = None

    def __init__(
        self, message: str, *, status: int = 0, code: str = "", remedy: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.code = code


class RegistryUnavailable(RegistryError):
    """No usable connection to the registry: refused, reset, timed out, TLS failure."""


class RegistryTimeout(RegistryUnavailable, TimeoutExpired):
    """A transfer as a whole took longer than it may, or was given up because another part failed."""


class Unauthorized(RegistryError):
    """The registry wants other credentials than it was given (401 and 403)."""


class ManifestNotFound(RegistryError):
    """The registry has no such repository, tag or manifest."""


class RegistryBlobNotFound(RegistryError):
    """The registry does not hold a blob that it should."""


# --- containers ------------------------------------------------------------------------------


class ContainerError(Error):
    """A container cannot do what was asked."""


class ContainerNotFound(ContainerError):
    """The store has no container of that name or id."""


class ContainerStateError(ContainerError):
    """The container is in a state in which that operation makes no sense."""


class ContainerFileError(ContainerError, OSError):
    """A file of a container cannot be read, written or copied. `errno` tells why, as of the system."""

    def __init__(self, message: str, *, code: int = 0, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.errno = code


class ContainerFileNotFound(ContainerFileError, FileNotFoundError):
    """The container has no such file or directory."""


class NotReady(ContainerError):
    """A container did not become ready: it took too long, or ended before.

    Attributes:
        state: The container's state when it was given up.
        exit_code: Its exit code; None if it runs, or nobody knows.
        log: The last lines of its log.
    """

    def __init__(
        self,
        message: str,
        *,
        state: str,
        exit_code: int | None = None,
        log: str = "",
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.state = state
        self.exit_code = exit_code
        self.log = log


class NotReadyInTime(NotReady, TimeoutExpired):
    """A container runs, but did not become ready within the time."""


class NameInUse(ContainerError):
    """Another container has that name."""


class VolumeNotFound(ContainerError):
    """The store has no volume of that name."""


class StartError(ContainerError):
    """A process could not be started in a container. `step` names the step that failed."""

    def __init__(self, message: str, *, step: str = "", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.step = step


class CommandNotFound(StartError):
    """The command does not exist in the container (a shell would answer 127)."""


class CommandNotExecutable(StartError):
    """The command exists but cannot be executed (a shell would answer 126)."""


class UnknownUser(StartError):
    """The user or group is not in the container's ``/etc/passwd`` or ``/etc/group``."""


class ProcessFailed(ContainerError):
    """A process ended with another exit code than 0 and ``check=True`` was asked.

    Attributes:
        exit_code: The exit code; 128 + n where signal n ended it.
        stdout: What was captured of its standard output.
        stderr: What was captured of its standard error.
    """

    def __init__(
        self, message: str, *, exit_code: int, stdout: bytes = b"", stderr: bytes = b""
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


# --- networks --------------------------------------------------------------------------------


class NetworkError(Error):
    """A network cannot be made or used as asked."""


class NetworkNotFound(NetworkError):
    """The store has no network of that name or id."""


class NetworkInUse(NetworkError):
    """A network cannot be deleted while containers are in it."""


class SubnetInUse(NetworkError):
    """A subnet overlaps one that this host or another network has."""


class AddressInUse(NetworkError):
    """Another container, or the gateway, has that address."""


class NoFreeAddress(NetworkError):
    """All addresses or subnets that could be given are in use."""


class PortInUse(NetworkError):
    """Another container or program has that port of the host."""


class PortUnreachable(NetworkError, ConnectionError):
    """Nothing in the container accepts connections on that port."""


# --- build -----------------------------------------------------------------------------------


class BuildError(Error):
    """An image cannot be built from what was given."""


class BuildStepFailed(BuildError):
    """A build step's command failed.

    Attributes:
        exit_code: Its exit code; 128 + n where signal n ended it.
        output: Its last lines.
        command: The words that were executed.
        file: The Dockerfile that holds the step; empty if there is none.
        line: The line there at which the step begins, from 1; 0 if there is none.
        source: The text of that line.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code: int,
        output: str = "",
        command: tuple[str, ...] = (),
        file: str = "",
        line: int = 0,
        source: str = "",
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.output = output
        self.command = command
        self.file = file
        self.line = line
        self.source = source

    def __str__(self) -> str:
        if not self.line:
            return super().__str__()
        column = len(self.source) - len(self.source.lstrip()) + 1
        shown = _shown(self.source, column)
        return "\n".join([f"{self.file}:{self.line}: {super().__str__().rstrip()}", *shown])


class DockerfileError(BuildError):
    """A Dockerfile cannot be read, or one of its instructions cannot be carried out.

    Attributes:
        file: The Dockerfile's name.
        line: The line at fault, from 1; 0 if it is the file as a whole.
        source: The text of that line.
        column: Where in the line, from 1; 0 if it is the line as a whole.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str = "Dockerfile",
        line: int = 0,
        source: str = "",
        column: int = 0,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.file = file
        self.line = line
        self.source = source
        self.column = column

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return "\n".join([f"{place}: {super().__str__()}", *_shown(self.source, self.column)])


def _shown(source: str, column: int) -> list[str]:
    """A line of a file with a caret below one of its columns, from 1; 0 for none."""
    if not source:
        return []
    caret = [" " * (3 + column) + "^"] if column else []
    return ["", "    " + source.expandtabs(1), *caret]
