"""Validation of object references: bucket, key, version id, ETag. Pure.

Upload events come from outside. A value that passes can neither change the host or the bucket of a request nor add a
header to it. The parser of events refuses all other values. The adapter of the store refuses them too, because the
topics may still contain tasks that an earlier release published.
"""

from __future__ import annotations

import re
from typing import Final

# S3 allows 1,024 bytes of key and of version id; bucket names have 63 characters, 255 in the oldest region.
MAX_KEY_BYTES: Final = 1024
MAX_VERSION_BYTES: Final = 1024
MAX_BUCKET_BYTES: Final = 255
MAX_ETAG_BYTES: Final = 128

# The legacy rules with upper case and underscores, because stores other than AWS still follow them.
_BUCKET: Final = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9_-])?")
# S3's rules since 2018. Only such a name may become part of a host name: hosts have no case and no underscores.
_HOST_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_IP_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
# Characters that If-Match may hold between its quotes. S3's own ETags are hex digits with an optional number of parts.
_ETAG: Final = re.compile(r"[\x21\x23-\x7e]+")
_HEX_ETAG: Final = re.compile(r"[0-9a-f]+(?:-[0-9]+)?")


def bucket_fault(bucket: str) -> str | None:
    """Return why `bucket` is not a valid bucket name, or None if it is valid."""
    if len(bucket) > MAX_BUCKET_BYTES or not _BUCKET.fullmatch(bucket):
        return "a bucket name has letters, digits, hyphens, underscores and, not at its ends, dots"
    if ".." in bucket:
        return "a bucket name has no two dots in a row"
    if _IP_ADDRESS.fullmatch(bucket):
        return "a bucket name does not look like an IP address"
    return None


def may_be_host(bucket: str) -> bool:
    """Return whether `bucket` may become part of the host name (virtual-hosted addressing)."""
    return _HOST_BUCKET.fullmatch(bucket) is not None


def key_fault(key: str) -> str | None:
    """Return why `key` is not a valid key, or None if it is valid."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "the key holds half of a surrogate pair"
    return None if 0 < size <= MAX_KEY_BYTES else f"the key has {size} bytes, 1 to {MAX_KEY_BYTES} are possible"


def never_asked_for(key: str) -> str | None:
    """Return why an object with this key is never requested, or None. Control characters other than NUL are allowed.

    Refused are keys whose `..` segments lead out of the bucket: a proxy in front of the store may resolve them, and the
    request would read another bucket. Browsers resolve them too, so no browser shows such an object. Refused are also
    keys with a NUL character, which truncates the name in many programs. Uploaders choose keys, so such an upload gets
    an outcome and not a dead letter: a run of dead letters would stop the worker.
    """
    if "\0" in key:
        return "the key holds a NUL character"
    depth = 0
    for segment in key.split("/"):
        if segment == "..":
            depth -= 1
        elif segment not in ("", "."):
            depth += 1
        if depth < 0:
            return "the key's .. segments lead out of its bucket"
    return None


def version_fault(version_id: str) -> str | None:
    """Return why `version_id` is not a valid version id, or None if it is valid."""
    if len(version_id) > MAX_VERSION_BYTES or not _VISIBLE.fullmatch(version_id):
        return f"a version id has 1 to {MAX_VERSION_BYTES} visible ASCII characters"
    return None


def bare_etag(text: str) -> str:
    """Return an ETag without quotes and without the prefix of a weak ETag, in lower case."""
    stripped = text.strip(" ")
    if stripped[:3] in ('W/"', 'w/"'):
        stripped = stripped[2:]
    return stripped.strip('"').lower()


def etag_fault(etag: str) -> str | None:
    """Return why `etag`, without quotes, is not a valid ETag, or None if it is valid."""
    if len(etag) > MAX_ETAG_BYTES or not _ETAG.fullmatch(etag):
        return f"an ETag has 1 to {MAX_ETAG_BYTES} visible ASCII characters, no quotes among them"
    return None


def normalised_etag(text: str | None) -> str | None:
    """Return the bare form of an ETag from a server or a listing, or None if it is absent or not valid."""
    etag = bare_etag(text) if text else ""
    return None if not etag or etag_fault(etag) else etag


def keeps_its_case(etag: str) -> bool:
    """Return whether the lower-case `etag` equals the store's: true for hex digits; other ETags may have lost case."""
    return _HEX_ETAG.fullmatch(etag) is not None


def reference_fault(bucket: str, key: str, version_id: str | None, etag: str | None) -> tuple[str, str] | None:
    """Return a stable reason and a sentence if the reference must not be used in a request, else None."""
    faults = (
        ("bad_bucket", bucket_fault(bucket)),
        ("bad_key", key_fault(key)),
        ("bad_version_id", version_fault(version_id) if version_id is not None else None),
        ("bad_etag", etag_fault(etag) if etag is not None else None),
    )
    for reason, fault in faults:
        if fault is not None:
            return reason, fault
    return None
