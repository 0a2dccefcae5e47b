"""Single fields of a notification: text, keys, ETags, sizes, times. A reader returns the value or raises BadField."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote_plus

# S3 allows 1,024 bytes of key and of version id; bucket names have 63 characters, 255 in the oldest region.
MAX_KEY_BYTES: Final = 1024
MAX_BUCKET_BYTES: Final = 255
MAX_SHORT_BYTES: Final = 128
MAX_SIZE: Final = 2**63 - 1

_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HEX: Final = re.compile(r"[0-9A-F]+")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")


class BadField(ValueError):
    """A field cannot be read; `reason` is the stable code of the dead letter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Return `value` as an object."""
    if not isinstance(value, dict):
        raise BadField("not_an_s3_event", f"{name} is not an object")
    return value


def text(value: Any, name: str, limit_bytes: int = MAX_SHORT_BYTES) -> str | None:
    """Return `value` as text that UTF-8 can hold; None and the empty text are None."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadField("bad_field", f"{name} is not text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise BadField("bad_field", f"{name} holds half of a surrogate pair") from error
    if size > limit_bytes:
        raise BadField("too_long", f"{name} has {size} bytes, at most {limit_bytes} are possible")
    return value


def key_readings(raw: Any, *, encoded: bool) -> tuple[str, str | None]:
    """Return the object key and its other reading (None when it says the same or cannot be a key).

    `encoded`: the dialect encodes keys as a form does. Decoding is strict: nothing is replaced by U+FFFD.
    """
    as_it_came = text(raw, "object key", 3 * MAX_KEY_BYTES)
    if as_it_came is None:
        raise BadField("no_key", "no object key")
    decoded, why = _decoded(as_it_came)
    if encoded and decoded is None:
        raise BadField("bad_key_encoding", why)
    key, other = (decoded, as_it_came) if encoded else (as_it_came, decoded)
    if key is None or len(key.encode()) > MAX_KEY_BYTES:
        raise BadField("too_long", f"the object key exceeds {MAX_KEY_BYTES} bytes")
    if other is None or other == key or len(other.encode()) > MAX_KEY_BYTES:
        return key, None
    return key, other


def _decoded(key: str) -> tuple[str | None, str]:
    if _BAD_PERCENT.search(key):
        return None, "the key is not valid percent-encoded UTF-8: % without two hex digits"
    try:
        return unquote_plus(key, encoding="utf-8", errors="strict"), ""
    except UnicodeDecodeError as error:
        return None, f"the key is not valid percent-encoded UTF-8: {error.reason}"


def etag(value: Any) -> str | None:
    """Return the ETag without quotes, in lower case; None when absent or empty."""
    found = text(value, "eTag")
    return (found.strip().strip('"').lower() or None) if found else None


def version(value: Any) -> str | None:
    """Return the version id; none when absent, empty or `null`."""
    found = text(value, "versionId", MAX_KEY_BYTES)
    return None if found in (None, "null") else found


def sequencer(value: Any) -> str | None:
    """Return the sequencer in upper case."""
    found = text(value, "sequencer")
    return found.upper() if found else None


def size(value: Any) -> int | None:
    """Return the size in bytes; None when absent."""
    if value is None or value == "":
        return None
    try:
        found = int(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadField("bad_size", "size is not a number") from error
    if isinstance(value, bool) or not 0 <= found <= MAX_SIZE:
        raise BadField("bad_size", "size is not a number of bytes")
    return found


def time_ms(value: Any) -> int:
    """Return an ISO 8601 time as Unix milliseconds, 0 when absent or not a time: it orders nothing then."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return 0
    try:
        zone = match[3] or "Z"
        moment = datetime.fromisoformat(match[1] + ("+00:00" if zone == "Z" else zone))
        milliseconds = int((match[2] or "").ljust(3, "0")[:3])
        return max(0, int(moment.astimezone(UTC).timestamp()) * 1000 + milliseconds)
    except (ValueError, OverflowError):
        return 0


def is_hex(value: str) -> bool:
    """Whether `value` consists of upper-case hex digits."""
    return _HEX.fullmatch(value) is not None
