"""GET /v1/images/{bucket}/{key}/explain: the whole story of one image."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from app.api.answers import json_answer
from app.api.dependencies import ApiParts, parts_of
from app.api.documents import SWITCH, TEXT, answer, guarded, listed, problem, record
from app.api.guards.auth import Caller, allow
from app.api.paths import image_key
from app.api.problems import Problem
from app.errors import BrokerUnavailable, StartupRefused
from app.explain.explain import ExplainParts, Story, explain
from app.explain.story import story_as_json
from app.settings import ROOT
from app.systems.kafka.topic_log import KafkaTopicLog

router = APIRouter()
_DAYS: Final = 30.0
_BUSY_SECONDS: Final = 5
# Time beyond `api.explain_seconds`, which limits the reading: for connecting, and for look-ups by position.
_MARGIN_SECONDS: Final = 10.0
_ANY: Final[dict[str, Any]] = {"type": ["object", "null"]}
_ANYTHING: Final[dict[str, Any]] = {}
_STORY: Final = record(
    place=TEXT,
    known=SWITCH,
    removed=_ANY,
    outcome=_ANY,
    flag=_ANY,
    policy=_ANY,
    rules=listed({"type": "object"}),
    event={**_ANYTHING, "description": "what the bucket's notifier said, where the topic still holds it"},
    task=_ANY,
    history=listed({"type": "object"}),
    flags=listed({"type": "object"}),
    removals=listed({"type": "object"}),
    dead_letters=listed({"type": "object"}),
    notes=listed(TEXT, "what could not be read, and why"),
)


@router.get(
    "/v1/images/{bucket}/{key}/explain",
    tags=["images"],
    summary="The whole story of one image",
    response_model=None,
    responses=guarded(
        "read",
        {
            200: answer("what `./sightline explain --json` prints", _STORY),
            400: problem("`invalid_key`: bucket or key in the path is invalid"),
            404: problem("`unknown_image`: no upload of this image is known"),
            429: problem("`busy`: two explanations are being read already; `rate_limited`"),
        },
    ),
)
async def explain_image(
    request: Request,
    _: Annotated[Caller, Depends(allow("read"))],
    image: Annotated[tuple[str, str], Depends(image_key)],
) -> Response:
    """Explain an image: event, task, outcome, rules of that time, history; from the index and the topics.

    Takes seconds on large topics. After `SIGHTLINE_API_EXPLAIN_SECONDS` the answer is incomplete and has a note.
    """
    parts = parts_of(request)
    if parts.live.explaining.locked():
        headers = {"Retry-After": str(_BUSY_SECONDS)}
        raise Problem(429, "busy", "the maximum number of explanations is being read", headers=headers)
    async with parts.live.explaining:
        story = await _story(parts, *image)
    if not story.known:
        if story.notes:
            # An image that is not in the part that was read may still be known.
            raise BrokerUnavailable("; ".join(story.notes))
        raise Problem(404, "unknown_image", f"nothing is known of s3://{image[0]}/{image[1]}")
    return json_answer(story_as_json(story), headers={"Cache-Control": "private, no-cache"})


async def _story(parts: ApiParts, bucket: str, key: str) -> Story:
    settings = parts.settings
    try:
        async with (
            asyncio.timeout(settings.api.explain_seconds + _MARGIN_SECONDS),
            KafkaTopicLog(settings.kafka) as log,
        ):
            explain_parts = ExplainParts(
                log=log,
                index=parts.index,
                codec=parts.codec,
                clock=parts.clock,
                policies_dir=ROOT / "policies",
                policy_path=settings.policy.path,
                days=_DAYS,
                scan_seconds=settings.api.explain_seconds,
            )
            return await explain(explain_parts, bucket, key)
    except StartupRefused as error:
        raise BrokerUnavailable(str(error)) from error
    except TimeoutError as error:
        raise BrokerUnavailable("the topics could not be read in time") from error
