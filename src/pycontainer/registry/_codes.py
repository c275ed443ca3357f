"""Error codes of the distribution specification, and the JSON bodies that carry them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.errors import RegistryUnavailable, TimeoutExpired, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.errors import RegistryError

__all__ = [
    "STATUS",
    "ApiError",
    "ReportedError",
    "format_errors",
    "parse_errors",
    "upstream_refusal",
]

STATUS: Final = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "PAGINATION_NUMBER_INVALID": 400,
    "SIZE_INVALID": 400,
    "TAG_INVALID": 400,
    "DENIED": 403,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED": 405,
    "TOOMANYREQUESTS": 429,
    "UNKNOWN": 500,
}
"""Each code with the HTTP status it usually goes with."""


class ApiError(Exception):
    """A request that the server refuses: becomes the answer's status and JSON body.

    Args:
        code: One of `STATUS`.
        message: What was wrong, for people.
        detail: The value that was wrong, for programs.
        status: Another status than the usual one.
        headers: What else the answer has.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        detail: object = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.detail = detail
        self.status = STATUS[code] if status is None else status
        self.headers = dict(headers or {})


@frozen
class ReportedError:
    """One error as a registry reported it."""

    code: str
    message: str = ""
    detail: object = None

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.code, self.message) if part)
        return text if not self.detail else f"{text} ({json.dumps(self.detail)[:300]})"


def upstream_refusal(error: RegistryError) -> ApiError:
    """What a client is told of an upstream's failure: nothing of who asked there, or how."""
    if isinstance(error, Unauthorized):
        return ApiError("DENIED", "the upstream registry does not let this one read that")
    if error.status == 429:
        seconds = math.ceil(error.retry_after or 1.0)
        headers = {"Retry-After": str(seconds)}
        return ApiError("TOOMANYREQUESTS", "the upstream registry has had enough", headers=headers)
    if isinstance(error, TimeoutExpired):
        return ApiError("UNKNOWN", "the upstream registry takes too long", status=504)
    if isinstance(error, RegistryUnavailable):
        return ApiError("UNKNOWN", "the upstream registry cannot be reached", status=502)
    return ApiError("UNKNOWN", "the upstream registry fails", status=502)


def format_errors(error: ApiError) -> bytes:
    """The body of a refusal (distribution spec, "Error Codes")."""
    entry = {"code": error.code, "message": error.message, "detail": error.detail}
    return json.dumps({"errors": [entry]}, separators=(",", ":")).encode() + b"\n"


def parse_errors(body: bytes) -> tuple[ReportedError, ...]:
    """What an error body reports; nothing if it is not of the specified form.

    Proxies and storage back ends answer with bodies of their own, so nothing raises here.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        return ()
    return tuple(
        ReportedError(entry["code"], str(entry.get("message") or ""), entry.get("detail"))
        for entry in errors
        if isinstance(entry, dict) and isinstance(entry.get("code"), str)
    )
