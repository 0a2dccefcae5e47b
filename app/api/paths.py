"""Paths `/v1/images/{bucket}/{key}` exactly as the client wrote them: a key is any text, with slashes and dots.

Servers decode a path before routing. Then `a%2Fb` and `a/b` are the same, and so are a key that ends in `/explain` and
the sub-resource `explain`. Therefore this middleware splits the path as received and replaces bucket and key by a dash:
ordinary routes match the new path, and `image_key` returns the real bucket and key.
"""

from __future__ import annotations

import re
from typing import Final, cast
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import Problem, problem_answer
from app.domain.object_names import MAX_BUCKET_BYTES, MAX_KEY_BYTES

_PREFIX: Final = b"/v1/images/"
SUB_RESOURCES: Final = frozenset({b"explain", b"history", b"preview"})
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class ImagePaths:
    """ASGI middleware, see above. A path without a valid key is answered with 400 `invalid_key`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request with the new path."""
        if scope["type"] == "http":
            raw = scope.get("raw_path") or quote(scope["path"]).encode()
            if raw.startswith(_PREFIX):
                state = scope.setdefault("state", {})
                try:
                    bucket, key, sub = split_image_path(raw)
                except Problem as problem:
                    await problem_answer(problem, str(state.get("request_id", "")))(scope, receive, send)
                    return
                state["image"] = (bucket, key)
                scope["path"] = f"/v1/images/-/-{sub}"
            elif scope["path"].startswith(_PREFIX.decode()):
                # Only the decoded path begins so; the routes would take it for a path that this middleware has split.
                scope["path"] = "/v1/images"
        await self._app(scope, receive, send)


def split_image_path(raw: bytes) -> tuple[str, str, str]:
    """Return bucket, key and sub-resource (with its slash, or empty) of a percent-encoded path.

    The last segment is a sub-resource if it literally names one and follows a key. Raises Problem 400.
    """
    first, slash, rest = raw.removeprefix(_PREFIX).partition(b"/")
    if not slash:
        raise Problem(404, "no_such_route", "an image is /v1/images/{bucket}/{key}")
    before, _, last = rest.rpartition(b"/")
    sub = ""
    if before and last in SUB_RESOURCES:
        rest, sub = before, f"/{last.decode()}"
    return _decoded("bucket", first, MAX_BUCKET_BYTES), _decoded("key", rest, MAX_KEY_BYTES), sub


def _decoded(what: str, raw: bytes, most_bytes: int) -> str:
    plain = raw
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise Problem(400, "invalid_key", f"the {what} has a % that is not part of an escape; write %25")
        plain = unquote_to_bytes(raw)
    if not plain:
        raise Problem(400, "invalid_key", f"the {what} is empty")
    if len(plain) > most_bytes:
        raise Problem(400, "invalid_key", f"the {what} has {len(plain)} bytes; the maximum is {most_bytes}")
    if b"\0" in plain:
        raise Problem(400, "invalid_key", f"the {what} contains a NUL")
    try:
        return plain.decode()
    except UnicodeDecodeError as error:
        raise Problem(400, "invalid_key", f"the {what} is not UTF-8") from error


async def image_key(request: Request) -> tuple[str, str]:
    """Return exact bucket and key of a request to /v1/images/{bucket}/{key}: a dependency.

    It takes no path parameters: they would be encoded, and checking them takes a quarter of the request's time.
    """
    return cast("tuple[str, str]", request.scope["state"]["image"])
