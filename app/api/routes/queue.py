"""Routes of the moderation queue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from app.api.answers import json_answer
from app.api.dependencies import ApiParts, parts_of
from app.api.documents import COMMON, problems
from app.api.guards.auth import Caller, KeyFirst, allow
from app.api.models import ACTION_LIST, FlaggedList, LeaseIds, LeaseRequest, Leases, Queue, Renewed
from app.api.views import image_view, lease_view
from app.domain.moderation import waits
from app.ports.index import IndexedImage
from app.ports.moderation import Lease

router = APIRouter(tags=["moderation"], route_class=KeyFirst)
_KINDS: Final = ("approve", "reject", "skip")
# Leases on images that no longer wait are withdrawn and replaced, at most this many times.
_ROUNDS: Final = 5
_Moderator = Annotated[Caller, Depends(allow("moderate"))]


@router.post("/v1/queue/lease", response_model=Leases, responses={**problems(*COMMON, 413)})
async def lease_images(request: Request, asked: LeaseRequest, caller: _Moderator) -> Response:
    """Lease the next images: no other moderator gets them until the lease ends. Leases that you hold come first."""
    parts = parts_of(request)
    actions = parts.settings.moderation.actions if asked.actions is None else asked.actions
    leased = await _leased(parts, caller.name, asked.count, actions)
    now_ms = parts.clock.now_ms()
    counts = await parts.queue.counts()
    body = {
        "leases": [
            lease_view(lease, image, image.prediction, now_ms)
            for lease, image in leased
            if image.prediction is not None
        ],
        "waiting": sum(counts.by_action.values()),
    }
    return json_answer(body)


async def _leased(
    parts: ApiParts, moderator: str, count: int, actions: Collection[str]
) -> list[tuple[Lease, IndexedImage]]:
    """Return leases on images that wait according to the index, which decides."""
    for _ in range(_ROUNDS):
        leases = await parts.queue.lease(moderator, count, actions)
        images = await parts.index.images([(lease.waiting.bucket, lease.waiting.key) for lease in leases])
        good = [
            (lease, image)
            for lease, image in zip(leases, images, strict=True)
            if image is not None and waits(image.flag, image.decision, parts.settings.moderation.actions)
        ]
        kept = {lease.lease_id for lease, _ in good}
        stale = [lease.waiting for lease in leases if lease.lease_id not in kept]
        if not stale:
            return good
        for waiting in stale:
            await parts.queue.withdraw(waiting)
    return good


@router.post("/v1/queue/renew", response_model=Renewed, responses={**problems(*COMMON, 413)})
async def renew_leases(request: Request, asked: LeaseIds, caller: _Moderator) -> Response:
    """Prolong leases. Lost leases went to another moderator, or their images were decided on."""
    kept = await parts_of(request).queue.renew(caller.name, asked.lease_ids)
    return json_answer(
        {"renewed": list(kept), "lost": [lease_id for lease_id in asked.lease_ids if lease_id not in kept]}
    )


@router.post("/v1/queue/release", status_code=204, responses={**problems(*COMMON, 413)})
async def release_leases(request: Request, asked: LeaseIds, caller: _Moderator) -> Response:
    """End leases; the images return to their places in the queue."""
    await parts_of(request).queue.release(caller.name, asked.lease_ids)
    return Response(status_code=204)


@router.get("/v1/queue", response_model=Queue, responses={**problems(*COMMON)})
async def get_queue(request: Request, caller: _Moderator) -> Response:
    """Return the number of waiting images, the age of the oldest, and the decisions of today (UTC)."""
    parts = parts_of(request)
    counts, today = await parts.queue.counts(), await parts.decision_log.today()
    oldest = counts.oldest_ms
    body = {
        "waiting": sum(counts.by_action.values()),
        "leased": counts.leased,
        "by_action": dict(counts.by_action),
        "oldest_seconds": None if oldest is None else max(0, parts.clock.now_ms() - oldest) / 1000,
        "today": {kind: sum(count for (_, decided), count in today.items() if decided == kind) for kind in _KINDS},
        "mine": {kind: today.get((caller.name, kind), 0) for kind in _KINDS},
    }
    return json_answer(body)


@router.get("/v1/flagged", response_model=FlaggedList, responses={**problems(*COMMON)})
async def list_flagged(
    request: Request,
    _: _Moderator,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    actions: Annotated[str, Query(pattern=ACTION_LIST, description="Only these actions, such as `review,block`.")] = "",
) -> Response:
    """List waiting images in the order in which moderators get them, without leases."""
    parts = parts_of(request)
    wanted: Sequence[str] = actions.split(",") if actions else parts.settings.moderation.actions
    ahead = await parts.queue.ahead(limit, wanted)
    images = await parts.index.images([(waiting.bucket, waiting.key) for waiting, _ in ahead])
    now_ms = parts.clock.now_ms()
    rows: list[dict[str, Any]] = [
        {
            "priority": waiting.weight,
            "waiting_seconds": max(0, now_ms - waiting.since_ms) / 1000,
            "leased_by": holder or None,
            "image": image_view(image, image.prediction),
        }
        for (waiting, holder), image in zip(ahead, images, strict=True)
        if image is not None and image.prediction is not None
    ]
    return json_answer({"images": rows})
