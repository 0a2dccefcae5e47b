"""Meaning of S3 answers other than 200 for one object, as in the table of docs/semantics.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_CODE = re.compile(r"<Code>\s*([A-Za-z0-9._-]{1,80})\s*</Code>")
_SHORTENED_DETAIL = 300
_SLOW = frozenset(
    {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "OperationAborted"}
)
_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "RequestTimeTooSkewed",
        "AuthorizationHeaderMalformed",
    }
)


@dataclass(frozen=True, slots=True)
class Gone:
    """No such object or version, or a delete marker."""

    detail: str


@dataclass(frozen=True, slots=True)
class Overwritten:
    """The key holds another object than the requested one."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The object exists and cannot be read by any retry: `archived`."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Denied:
    """403: the object, the bucket, or a deleted object in a bucket that may not be listed."""

    detail: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Reading failed. `scope` is the known cause: `bucket`, `credentials`, `signature` (the credentials or the object's
    name), or `unknown`."""

    detail: str
    scope: str = "unknown"
    retry: bool = True


def cut_off(error: Exception) -> Failed:
    """Return the failure of a request that ended without a whole answer."""
    # The text may quote the server, including bytes that are not valid UTF-8.
    text = f"{type(error).__name__}: {error}"[:_SHORTENED_DETAIL]
    return Failed(text.encode("utf-8", "replace").decode())


Answer = Gone | Overwritten | Refused | Denied | Failed


def read_answer(status: int, text: str, headers: Mapping[str, str], *, versioned: bool) -> Answer:
    """Return the meaning of `status` with the error document `text`."""
    match = _CODE.search(text)
    code = match.group(1) if match else ""
    detail = f"{status} {code}".strip()
    if status == 412:
        return Overwritten()
    if code in _CREDENTIALS:
        return Failed(detail, "credentials", retry=False)
    if code == "SignatureDoesNotMatch":
        return Failed(detail, "signature", retry=False)
    if status == 404:
        if code == "NoSuchBucket":
            return Failed(detail, "bucket", retry=False)
        if code in ("NoSuchKey", "NoSuchVersion") or headers.get("x-amz-delete-marker") == "true":
            return Gone(detail)
        # Not an answer of S3. Because of a proxy or a wrong address, objects must not count as deleted.
        return Failed(f"{detail} without an S3 error code")
    if status == 405 and versioned:
        return Gone(f"{detail}: a delete marker")
    if status == 400 and versioned and code in ("NoSuchVersion", "InvalidArgument", "InvalidVersionId"):
        return Gone(f"{detail}: no such version")
    if status == 403:
        if code == "InvalidObjectState":
            return Refused("archived", detail)
        return Denied(detail)
    return Failed(detail, retry=status >= 500 or status in (408, 409, 425, 429) or code in _SLOW)
