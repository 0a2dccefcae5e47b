"""Bucket and key of a request to /v1/images/{bucket}/{key}."""

from __future__ import annotations

from fastapi import Request


def image_key(request: Request, bucket: str, key: str) -> tuple[str, str]:
    """Return bucket and key as the path names them: a dependency."""
    return bucket, key
