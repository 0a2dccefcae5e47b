"""Bodies of POST /v1/score: raw bytes, a form's file or a JSON reference, within the limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from app.api.answers import JSON, media_type
from app.api.bodies import FORM_BYTES, too_slow
from app.api.models import Key, Text
from app.api.problems import Problem, invalid_fields
from app.domain.object_names import bare_etag
from app.errors import DeadlineExceeded
from app.ports.objects import ObjectRef

# A body of 10 MB over 2 Mbit/s takes about this time. A slower client would hold bytes that others wait for.
_BODY_SECONDS: Final = 45.0
# Bucket and key, each byte of which may be written as six.
_REFERENCE_BYTES: Final = 16 * 1024
FORM: Final = "multipart/form-data"
_BYTES: Final = "application/octet-stream"


class _Reference(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    bucket: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=63)]
    key: Key
    version_id: Annotated[Text | None, Field(min_length=1, max_length=1024)] = None
    etag: Annotated[Text | None, Field(min_length=1, max_length=200)] = None


def kind_of(request: Request) -> str:
    """Return the kind of body: FORM, JSON, or `image` for bytes. Raises Problem(415) for any other."""
    named = media_type(request)
    if named in (FORM, JSON):
        return named
    if named == _BYTES or named.startswith("image/"):
        return "image"
    detail = f"send image/*, {_BYTES}, {FORM} or {JSON}, not {named or 'a body without a content type'}"
    raise Problem(415, "unsupported_media_type", detail)


def expected_bytes(request: Request, most: int) -> int:
    """Return the number of bytes to reserve. Raises Problem(413) if Content-Length exceeds `most`."""
    announced = request.headers.get("content-length", "")
    if not announced.isdecimal():
        return most
    if int(announced) > most:
        raise too_large(most)
    return int(announced)


def form_bytes(most: int) -> int:
    """Return the size limit of a form with a file of `most` bytes."""
    return most + FORM_BYTES


def too_large(most: int, *, closing: bool = False) -> Problem:
    """Return the problem of a body that is too large. `closing`: its end is unknown, so the connection is closed."""
    headers = {"Connection": "close"} if closing else {}
    return Problem(413, "body_too_large", f"the body is larger than {most} bytes", headers=headers, most_bytes=most)


async def read_bytes(request: Request, most: int) -> bytes:
    """Return the body. Raises Problem(413) past `most` bytes."""
    parts: list[bytes] = []
    total = 0
    async for part in request.stream():
        total += len(part)
        if total > most:
            raise too_large(most, closing=True)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_form(request: Request, most: int) -> bytes:
    """Return the only file of a form, from its field `file`. Raises Problem."""
    # The middleware limits the whole body, form included (app/api/bodies.py).
    try:
        async with request.form(max_files=1, max_fields=0) as form:
            fields = form.multi_items()
            if len(fields) != 1 or fields[0][0] != "file" or not isinstance(fields[0][1], UploadFile):
                raise Problem(422, "invalid_request", "the form must hold one file, in the field `file`")
            content = await fields[0][1].read()
    except HTTPException as error:
        raise Problem(422, "invalid_request", f"the form cannot be read: {error.detail}") from error
    if len(content) > most:
        raise too_large(most)
    return content


async def read_reference(request: Request) -> ObjectRef:
    """Return the object that a JSON body names. Raises Problem."""
    body = await read_bytes(request, expected_bytes(request, _REFERENCE_BYTES))
    try:
        reference = _Reference.model_validate_json(body)
    except ValidationError as error:
        raise invalid_fields(error.errors(), "body") from error
    etag = bare_etag(reference.etag) if reference.etag else None
    return ObjectRef(reference.bucket, reference.key, reference.version_id, etag or None, None)


@asynccontextmanager
async def within(deadline: float | None, now: Callable[[], float]) -> AsyncIterator[None]:
    """End the body of the `with` statement with DeadlineExceeded when the caller's deadline passes."""
    try:
        async with asyncio.timeout(None if deadline is None else max(0.0, deadline - now())) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DeadlineExceeded("the deadline passed before the picture arrived") from error


@asynccontextmanager
async def receiving() -> AsyncIterator[None]:
    """Limit the time in which a client sends a body. Raises Problem if it takes longer or disconnects."""
    try:
        async with asyncio.timeout(_BODY_SECONDS) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise too_slow(_BODY_SECONDS) from error
    except ClientDisconnect as error:
        raise Problem(400, "disconnected", "the client disconnected before its body was complete") from error
