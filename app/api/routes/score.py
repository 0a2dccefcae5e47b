"""POST /v1/score: synchronous scoring of a picture."""

from __future__ import annotations

import re
from typing import Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from app.api.answers import JSON, json_answer
from app.api.dependencies import ApiParts, parts_of
from app.api.direct_routes import HandMade, served_by
from app.api.documents import COMMON, problems
from app.api.guards.auth import allow
from app.api.pictures import PictureParts
from app.api.problems import Problem, invalid
from app.api.score_bodies import (
    FORM,
    expected_bytes,
    form_bytes,
    kind_of,
    read_bytes,
    read_form,
    read_reference,
    receiving,
    within,
)
from app.api.score_document import REQUEST_BODY, Score, score_view
from app.domain.images import Rejection
from app.errors import DeadlineExceeded, Overloaded, ScoringUnavailable
from app.inference.budget import Held
from app.serving.references import NOT_SERVED, Absent
from app.serving.score_content import ContentScorer

MAY_SCORE: Final = allow("score")
router = APIRouter(tags=["score"], dependencies=[Depends(MAY_SCORE)])
_DEADLINE: Final = "X-Deadline-Ms"
_MOST_DEADLINE_MS: Final = 600_000
# Written out: FastAPI would describe an optional header as one that may be null, which no header can be.
_DEADLINE_PARAMETER: Final = {
    "name": _DEADLINE,
    "in": "header",
    "required": False,
    "description": "Answer within so many milliseconds, or not at all.",
    "schema": {"type": "integer", "minimum": 1, "maximum": _MOST_DEADLINE_MS},
}
# Loading takes some seconds, once.
_LOADING_RETRY_SECONDS: Final = 3


async def _serve(request: Request) -> Response:
    await MAY_SCORE(request)
    parts = parts_of(request)
    deadline = _deadline(request, parts.clock.monotonic())
    pictures = parts.pictures
    if pictures is None:
        raise Problem(503, "scoring_off", "this process does not score")
    try:
        scorer = pictures.scoring.scorer()
        kind = kind_of(request)
        if kind == JSON:
            return await _referenced(request, parts, pictures, scorer, deadline)
        return await _sent(request, parts, pictures, scorer, kind, deadline)
    except ScoringUnavailable as error:
        headers = {"Retry-After": str(_LOADING_RETRY_SECONDS)} if error.code == "models_loading" else {}
        raise Problem(503, error.code, str(error), headers=headers) from error
    except Overloaded as error:
        headers = {"Retry-After": str(error.retry_after_seconds)}
        raise Problem(429, "overloaded", str(error), headers=headers) from error
    except DeadlineExceeded as error:
        raise Problem(504, "deadline_exceeded", str(error)) from error


@served_by(_serve)
async def score_picture() -> None:
    """Score a picture with all models and the policy, like an upload of the same bytes.

    422: the picture is rejected, `code` is the reason that the stream gives (docs/images.md). 403 `bucket_not_served`
    and 404 `no_such_object` concern references. 429 `overloaded`: too much work in progress, or too much for the
    deadline. 503: `models_loading`, `models_failed`, `scoring_off`, or `unavailable` during an outage of the store.
    """


router.add_api_route(
    "/v1/score",
    score_picture,
    methods=["POST"],
    route_class_override=HandMade,
    response_model=Score,
    responses=problems(*COMMON, 404, 408, 413, 415, 504),
    openapi_extra={"requestBody": REQUEST_BODY, "parameters": [_DEADLINE_PARAMETER]},
)


def _deadline(request: Request, now: float) -> float | None:
    """Return the deadline in the header, on the monotonic clock. Raises Problem 422."""
    asked = request.headers.get(_DEADLINE)
    if asked is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", asked) or not 1 <= int(asked) <= _MOST_DEADLINE_MS:
        raise invalid(f"header.{_DEADLINE}", f"must be a whole number from 1 to {_MOST_DEADLINE_MS}")
    return now + int(asked) / 1000


async def _sent(
    request: Request, parts: ApiParts, pictures: PictureParts, scorer: ContentScorer, kind: str, deadline: float | None
) -> Response:
    most = parts.settings.api.max_body_bytes
    amount = expected_bytes(request, form_bytes(most) if kind == FORM else most)
    room = await pictures.bodies.take(amount, _left(parts, deadline))
    try:
        async with within(deadline, parts.clock.monotonic), receiving():
            body = await (read_form(request, most) if kind == FORM else read_bytes(request, most))
        return await _answer(scorer, body, room, deadline)
    finally:
        room.release()


async def _referenced(
    request: Request, parts: ApiParts, pictures: PictureParts, scorer: ContentScorer, deadline: float | None
) -> Response:
    async with within(deadline, parts.clock.monotonic), receiving():
        ref = await read_reference(request)
    room = await pictures.bodies.take(pictures.objects.max_bytes, _left(parts, deadline))
    try:
        async with within(deadline, parts.clock.monotonic):
            content = await pictures.objects.read(ref)
        match content:
            case Absent():
                raise Problem(403 if content.code == NOT_SERVED else 404, content.code, content.detail)
            case Rejection():
                raise _no_picture(scorer, content)
            case _:
                return await _answer(scorer, content, room, deadline)
    finally:
        room.release()


async def _answer(scorer: ContentScorer, body: bytes, room: Held, deadline: float | None) -> Response:
    room.keep(len(body))
    scored = await scorer.score(body, deadline=deadline)
    if isinstance(scored, Rejection):
        raise _no_picture(scorer, scored)
    return json_answer(score_view(scored))


def _no_picture(scorer: ContentScorer, rejection: Rejection) -> Problem:
    """Return the outcome `rejected` as a problem, with the policy's action."""
    verdict = scorer.judge(rejection)
    return Problem(
        422,
        rejection.reason.value,
        rejection.detail,
        outcome="rejected",
        publishable=False,
        format=rejection.format,
        width=rejection.width,
        height=rejection.height,
        action=verdict.action if verdict is not None else "none",
    )


def _left(parts: ApiParts, deadline: float | None) -> float | None:
    return None if deadline is None else deadline - parts.clock.monotonic()
