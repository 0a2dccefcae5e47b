"""JSON answers without FastAPI's response models, whose checks and copies cost more than the answer itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

JSON: Final = "application/json"


def media_type(request: Request) -> str:
    """Return the content type of the request without parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `body` (of plain values) as JSON."""
    return Response(orjson.dumps(body), status, dict(headers or {}), JSON)


def tagged_answer(request: Request, body: Any) -> Response:
    """Return `body` with a strong ETag, or 304 if the client sends this ETag."""
    text = orjson.dumps(body)
    etag = f'"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    asked = request.headers.get("if-none-match")
    if asked is not None and (asked.strip() == "*" or etag in (_weak(tag) for tag in asked.split(","))):
        return Response(None, 304, headers)
    return Response(text, 200, headers, JSON)


def _weak(tag: str) -> str:
    return tag.strip().removeprefix("W/")
