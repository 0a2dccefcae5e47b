"""Readers of single fields of a notification: text, keys, ETags, sizes, times. Each raises BadField."""

from __future__ import annotations

import re
from collections.abc import Set
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final
from urllib.parse import unquote_plus

from app.domain.object_names import (
    MAX_BUCKET_BYTES,
    MAX_KEY_BYTES,
    MAX_VERSION_BYTES,
    bare_etag,
    bucket_fault,
    etag_fault,
    version_fault,
)

MAX_SHORT_BYTES: Final = 128
MAX_SIZE: Final = 2**63 - 1

_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Characters of a form-encoded key. A key with a space or any other character is not encoded.
_ENCODED: Final = re.compile(r"[A-Za-z0-9._~/!'()*%+-]+")
_HEX: Final = re.compile(r"[0-9A-F]+")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]+")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", re.ASCII)


class KeyForm(Enum):
    """Form in which a dialect writes object keys."""

    ENCODED = "encoded as in HTML forms: a plus sign is a space"
    RAW = "not encoded"
    SHAPE = "unknown: decided for each key by its characters"


class BadField(ValueError):
    """Error of a field that cannot be read. `reason` is the stable code of the dead letter."""

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
    """Return `value` as text that UTF-8 can encode. None and the empty text give None."""
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


def name(value: Any, field: str) -> str | None:
    """Return `value` as short printable ASCII, such as the name of an event, or None if it is empty."""
    read = text(value, field)
    if read is not None and not _PRINTABLE.fullmatch(read):
        raise BadField("bad_field", f"{field} holds characters that no such name has")
    return read


def bucket(value: Any) -> str:
    """Return the name of a bucket. S3's naming rules and those for older buckets apply."""
    read = text(value, "bucket name", MAX_BUCKET_BYTES)
    if read is None:
        raise BadField("no_bucket", "no bucket name")
    if (fault := bucket_fault(read)) is not None:
        raise BadField("bad_bucket", fault)
    return read


def key_readings(raw: Any, form: KeyForm) -> tuple[str, str | None]:
    """Return the object key and its other reading (None if equal to the first, or not a valid key).

    Decoding is strict: nothing is replaced by U+FFFD. A key of unknown form is taken as encoded if its characters allow
    it, because most stores encode. A plus sign is then a space. If the first reading names no object, the fetch tries
    the other one.
    """
    as_it_came = text(raw, "object key", 3 * MAX_KEY_BYTES)
    if as_it_came is None:
        raise BadField("no_key", "no object key")
    decoded, why = _decoded(as_it_came)
    if form is KeyForm.ENCODED and decoded is None:
        raise BadField("bad_key_encoding", why)
    encoded = form is KeyForm.ENCODED or (
        form is KeyForm.SHAPE and decoded is not None and _ENCODED.fullmatch(as_it_came) is not None
    )
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
    """Return the ETag without quotes, in lower case, or None if it is absent or empty."""
    read = text(value, "eTag")
    bare = bare_etag(read) if read else ""
    if not bare:
        return None
    if (fault := etag_fault(bare)) is not None:
        raise BadField("bad_etag", fault)
    return bare


def version(value: Any, none: Set[str]) -> str | None:
    """Return the version id, or None if it is absent, empty or one of the words in `none`."""
    read = text(value, "versionId", MAX_VERSION_BYTES)
    if read is None or read in none:
        return None
    if (fault := version_fault(read)) is not None:
        raise BadField("bad_version_id", fault)
    return read


def sequencer(value: Any) -> str | None:
    """Return the sequencer in upper case, or None. A JSON number is accepted too."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE:
        value = str(value)
    read = text(value, "sequencer")
    if read is not None and not _VISIBLE.fullmatch(read):
        raise BadField("bad_sequencer", "a sequencer has visible ASCII characters alone")
    return read.upper() if read else None


def size(value: Any) -> int | None:
    """Return the size in bytes; None when absent."""
    if value is None or value == "":
        return None
    try:
        count = int(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadField("bad_size", "size is not a number") from error
    if isinstance(value, bool) or not 0 <= count <= MAX_SIZE:
        raise BadField("bad_size", "size is not a number of bytes")
    return count


def time_ms(value: Any) -> int:
    """Return an ISO 8601 time as Unix milliseconds, or 0 if it is absent or not a time; 0 takes no part in ordering."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return 0
    try:
        zone = match[3] or "Z"
        moment = datetime.fromisoformat(match[1].replace(" ", "T") + ("+00:00" if zone == "Z" else zone))
        milliseconds = int((match[2] or "").ljust(3, "0")[:3])
        return max(0, int(moment.astimezone(UTC).timestamp()) * 1000 + milliseconds)
    except (ValueError, OverflowError):
        return 0


def is_hex(value: str) -> bool:
    """Return whether `value` consists of upper-case hex digits."""
    return _HEX.fullmatch(value) is not None
