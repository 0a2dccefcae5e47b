"""Addresses in the object store: `s3://bucket/key` of an object, `s3://bucket/prefix` of a folder."""

from __future__ import annotations

import re
from typing import Final

from app.errors import ConfigurationError

_PLACE: Final = re.compile(r"s3://([^/]+)(?:/(.*))?", re.DOTALL)


def parse_place(text: str) -> tuple[str, str]:
    """Return bucket and key (or prefix; empty if absent) of an address. Raises ConfigurationError."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"{text!r} is no place in S3: write s3://bucket or s3://bucket/prefix")
    return match[1], match[2] or ""


def parse_image(text: str) -> tuple[str, str]:
    """Return bucket and key of s3://bucket/key. Raises ConfigurationError if there is no key."""
    bucket, key = parse_place(text)
    if not key:
        raise ConfigurationError(f"{text!r} names no image; write it as s3://bucket/key")
    return bucket, key


def parse_folder(text: str) -> tuple[str, str]:
    """Return bucket and prefix of a folder; the prefix ends with a slash, or is empty. Raises ConfigurationError."""
    bucket, prefix = parse_place(text)
    prefix = prefix.strip("/")
    return bucket, f"{prefix}/" if prefix else ""
