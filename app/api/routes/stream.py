"""GET /v1/stream/flagged: stream of new flags."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from app.api.dependencies import ApiParts, parts_of
from app.api.documents import TEXT, answer, guarded, problem
from app.api.event_stream import EVENT_STREAM, EventStream, server_event
from app.api.guards.auth import Caller, allow
from app.api.problems import Problem
from app.domain.policy.rules import ACTIONS, is_published
from app.serving.flag_stream import NotAnEventId, Subscription, TooManyStreams
from app.serving.flag_view import flagged_image_view

router = APIRouter()
HEARTBEAT_SECONDS: Final = 15.0
# A browser reconnects after this time, with the id of the last event.
RETRY_MS: Final = 2_000
_BUSY_SECONDS: Final = 10
_ACTIONS: Final = tuple(action for action in ACTIONS if is_published(action))
_LIST: Final = rf"^({'|'.join(_ACTIONS)})(,({'|'.join(_ACTIONS)}))*$"


@router.get(
    "/v1/stream/flagged",
    tags=["stream"],
    summary="Flagged images as they are decided (server-sent events)",
    status_code=200,
    response_class=EventStream,
    response_model=None,
    responses=guarded(
        "read",
        {
            200: answer(
                "events `flagged`; a block with only an id reports the position of the stream", TEXT, EVENT_STREAM
            ),
            400: problem("`bad_event_id`: Last-Event-ID is not an id of this stream"),
            429: problem("`too_many_streams`: the maximum number of streams is open; `rate_limited`"),
        },
    ),
)
async def follow_flagged(
    request: Request,
    caller: Annotated[Caller, Depends(allow("read"))],
    actions: Annotated[
        str | None,
        Query(pattern=_LIST, max_length=100, description="only flags of these actions, such as review,block"),
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="id of the last event; what followed it comes first, each flag once")
    ] = None,
) -> Response:
    """Stream every flag once: from now on, or after `Last-Event-ID`.

    A flag that a rescoring withdraws is sent as `state: cleared`, also to clients that selected its former action.
    """
    parts = parts_of(request)
    wanted = frozenset(actions.split(",")) if actions else frozenset[str]()
    try:
        subscription = await parts.live.flags.subscribe(wanted, last_event_id or None)
    except NotAnEventId as error:
        raise Problem(400, "bad_event_id", f"Last-Event-ID: {error}; start without one") from error
    except TooManyStreams as error:
        most = parts.settings.api.max_streams
        headers = {"Retry-After": str(_BUSY_SECONDS)}
        raise Problem(
            429, "too_many_streams", f"{most} streams are open, which is the maximum", headers=headers
        ) from error
    return EventStream(_blocks(subscription, parts, caller), subscription.close)


async def _blocks(subscription: Subscription, parts: ApiParts, caller: Caller) -> AsyncIterator[bytes]:
    retry_ms: int | None = RETRY_MS
    async with aclosing(subscription.events(HEARTBEAT_SECONDS)) as events:
        async for event in events:
            if parts.keys.valid(caller.key_id) is None:
                return  # revoked or expired in the meantime; heartbeats are frequent enough to notice it
            if event.flag is None:
                comment = event.note or "how far this stream has come"
                yield server_event(event_id=event.event_id, comment=comment, retry_ms=retry_ms)
                retry_ms = None
            else:
                parts.meters.count("sightline_stream_flags_total")
                data = orjson.dumps(flagged_image_view(event.flag))
                yield server_event(event_id=event.event_id, event="flagged", data=data)
