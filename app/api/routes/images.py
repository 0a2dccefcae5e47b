"""Routes for images and contents: latest outcome, history, batch."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.datastructures import QueryParams
from starlette.responses import Response

from app.api.answers import json_answer, tagged_answer
from app.api.dependencies import ApiParts, parts_of
from app.api.direct_routes import HandMade, served_by
from app.api.documents import COMMON, problems
from app.api.guards.auth import READ, KeyFirst, allow
from app.api.models import Batch, BatchRequest, Content, History, Image, Sha256, UnderWay
from app.api.paths import image_key
from app.api.problems import Problem, invalid
from app.api.views import content_view, decision_view, image_view, outcome_view
from app.ports.index import IndexedImage

router = APIRouter(tags=["images"], dependencies=[Depends(allow("read"))], route_class=KeyFirst)
_WAIT: Final = r"^([0-9]{1,6}(\.[0-9]{1,3})?)(s|ms)?$"
_ETAG: Final = 200
# A change whose notification was lost is noticed after this time.
_LOOK_AGAIN_SECONDS: Final = 1.0


async def _serve_image(request: Request) -> Response:
    await READ(request)
    parts, image = parts_of(request), await image_key(request)
    etag, seconds = None, 0.0
    if request.scope["query_string"]:
        etag, seconds = _asked(request.query_params, parts.settings.api.max_wait_seconds)
    known = await parts.index.image(*image)
    if seconds > 0 and not _is_answer(known, etag):
        known = await _awaited(parts, image, etag, seconds)
    return _answer(request, parts, image, known, etag)


@served_by(_serve_image)
async def get_image(
    image: Annotated[tuple[str, str], Depends(image_key)],
    wait: Annotated[
        str, Query(pattern=_WAIT, description="Wait this long for the outcome: `5s`, `500ms`; the setting limits it.")
    ] = "0",
    etag: Annotated[
        str | None, Query(max_length=_ETAG, description="Only the outcome of this upload: the ETag that S3 returned.")
    ] = None,
) -> None:
    """Return the latest outcome of an image: all models' scores, flag and decision.

    With `wait` the answer is sent when the outcome arrives. `pending` is set if a later upload has no outcome yet.
    """


router.add_api_route(
    "/v1/images/{bucket}/{key}",
    get_image,
    methods=["GET"],
    status_code=200,
    route_class_override=HandMade,
    response_model=Image,
    responses={
        202: {"model": UnderWay, "description": "The upload is known, its outcome is still to come."},
        304: {"description": "As the ETag in If-None-Match has it."},
        **problems(*COMMON, 400, 404),
    },
)


def _asked(query: QueryParams, most_seconds: float) -> tuple[str | None, float]:
    """Return ETag and seconds to wait, as `get_image` describes them. Raises Problem 422."""
    wait, etag = query.get("wait", "0"), query.get("etag")
    match = re.fullmatch(_WAIT, wait)
    if match is None:
        raise invalid("query.wait", "must be a time such as 5s or 500ms")
    if etag is not None and len(etag) > _ETAG:
        raise invalid("query.etag", f"must have at most {_ETAG} characters")
    seconds = float(match[1]) / (1000 if match[3] == "ms" else 1)
    return None if etag is None else etag.strip('"').lower(), min(seconds, most_seconds)


def _answer(
    request: Request, parts: ApiParts, image: tuple[str, str], known: IndexedImage | None, etag: str | None
) -> Response:
    bucket, key = image
    if known is None:
        raise Problem(404, "unknown_image", "no upload of this image is known; for a very recent one use `?wait=5s`")
    other = known.prediction is not None and etag is not None and known.prediction.etag != etag
    if known.prediction is not None and not other:
        return tagged_answer(request, image_view(known, known.prediction))
    if known.pending is not None:
        since_ms = known.pending.since_ms
        body = {
            "bucket": bucket,
            "key": key,
            "status": "under_way",
            "upload_id": known.pending.upload_id,
            "since_ms": since_ms,
            "queue_seconds": max(0, parts.clock.now_ms() - since_ms) / 1000,
        }
        return json_answer(body, 202, {"Retry-After": "1"})
    if other:
        raise Problem(404, "unknown_upload", "the latest outcome of this image belongs to an upload with another ETag")
    raise Problem(404, "removed_image", "this image was removed and not uploaded again", removed_ms=known.removed_at_ms)


def _is_answer(known: IndexedImage | None, etag: str | None) -> bool:
    if known is None or known.prediction is None:
        return False
    return known.pending is None if etag is None else known.prediction.etag == etag


async def _awaited(parts: ApiParts, image: tuple[str, str], etag: str | None, seconds: float) -> IndexedImage | None:
    until = parts.clock.monotonic() + seconds
    async with parts.watch.watching(*image) as changed:
        while True:
            changed.clear()
            known = await parts.index.image(*image)
            left = until - parts.clock.monotonic()
            if left <= 0 or parts.stopping.is_set() or _is_answer(known, etag):
                return known
            waiting = [asyncio.create_task(event.wait()) for event in (changed, parts.stopping)]
            try:
                await asyncio.wait(waiting, timeout=min(left, _LOOK_AGAIN_SECONDS), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()


@router.get("/v1/images/{bucket}/{key}/history", response_model=History, responses={**problems(*COMMON, 400, 404)})
async def get_history(request: Request, image: Annotated[tuple[str, str], Depends(image_key)]) -> Response:
    """Return all stored outcomes of an image, each with its models' versions and scores, and all decisions."""
    kept = await parts_of(request).index.history(*image)
    if not kept.outcomes and not kept.decisions:
        raise Problem(404, "unknown_image", "no outcome of this image is stored")
    body = {
        "bucket": image[0],
        "key": image[1],
        "outcomes": [outcome_view(outcome) for outcome in kept.outcomes],
        "decisions": [decision_view(decision) for decision in kept.decisions],
    }
    return tagged_answer(request, body)


@router.get("/v1/content/{sha256}", response_model=Content, responses={**problems(*COMMON, 404)})
async def get_content(request: Request, sha256: Sha256) -> Response:
    """Return the latest outcome of a content, whatever its bucket and key."""
    prediction = await parts_of(request).index.content(sha256)
    if prediction is None:
        raise Problem(404, "unknown_content", "no upload with these bytes is known")
    return tagged_answer(request, content_view(prediction))


@router.post("/v1/images:batchGet", response_model=Batch, responses={**problems(*COMMON, 413)})
async def batch_get_images(request: Request, asked: BatchRequest) -> Response:
    """Return what is known of many images, in the order of the request; unknown images are included."""
    names = [(reference.bucket, reference.key) for reference in asked.images]
    images = await parts_of(request).index.images(names)
    return json_answer({"images": [_entry(name, known) for name, known in zip(names, images, strict=True)]})


def _entry(name: tuple[str, str], known: IndexedImage | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"bucket": name[0], "key": name[1], "status": "unknown", "image": None}
    if known is None:
        return entry
    if known.prediction is not None:
        return {**entry, "status": "found", "image": image_view(known, known.prediction)}
    return {**entry, "status": "under_way" if known.pending is not None else "removed"}
