"""GET /v1/operations: figures of the pipeline for operators."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from app.api.answers import json_answer
from app.api.dependencies import parts_of
from app.api.documents import (
    COUNT,
    NUMBER,
    NUMBER_OR_NULL,
    TEXT,
    TEXT_OR_NULL,
    UNIX_MS,
    answer,
    by_name,
    guarded,
    listed,
    record,
)
from app.api.guards.auth import Caller, allow

router = APIRouter()
_COUNT_OR_NULL: Final = {"type": ["integer", "null"], "minimum": 0}
_OPERATIONS: Final = record(
    window_seconds=COUNT,
    throughput_per_second=NUMBER,
    outcomes=record(scored=COUNT, rejected=COUNT, gone=COUNT),
    rejections=by_name(COUNT, "outcomes `rejected` by their reason"),
    cache_hit_ratio={**NUMBER_OR_NULL, "description": "of the outcomes `scored`; null where there is none"},
    cached=COUNT,
    freshness={
        **record(p50_seconds=NUMBER_OR_NULL, p95_seconds=NUMBER_OR_NULL, max_seconds=NUMBER_OR_NULL, count=COUNT),
        "description": "from the upload event to the outcome, of live uploads; quantiles are within 2.5 %",
    },
    series=listed(
        record(at_ms=UNIX_MS, outcomes=COUNT, cached=COUNT, p50_seconds=NUMBER_OR_NULL, p95_seconds=NUMBER_OR_NULL),
        "the window in steps of ten seconds, oldest first; the last one is not over yet",
    ),
    lanes=listed(
        record(agent=TEXT, topic=TEXT, lag_records=COUNT, lag_seconds=NUMBER),
        "lag_records is an upper bound; lag_seconds is the age of the oldest record that is not committed",
    ),
    dead_letters=record(
        open={**_COUNT_OR_NULL, "description": "null where it is not known"},
        reasons=listed(record(agent=TEXT, reason=TEXT, count=COUNT, latest_ms=UNIX_MS)),
        latest=listed(
            record(
                letter_id=TEXT,
                agent=TEXT,
                reason=TEXT,
                detail=TEXT,
                bucket=TEXT_OR_NULL,
                key=TEXT_OR_NULL,
                dead_ms=UNIX_MS,
            )
        ),
    ),
    models=listed(record(model=TEXT, version=TEXT, images=COUNT)),
    policies=listed(record(policy=TEXT, version=TEXT, flags=COUNT)),
    notes=listed(TEXT, "what could not be read, and why"),
)


@router.get(
    "/v1/operations",
    tags=["operations"],
    summary="Figures of the last five minutes, lag and dead letters",
    response_model=None,
    responses=guarded("admin", {200: answer("the figures, of all workers together", _OPERATIONS)}),
)
async def get_operations(request: Request, _: Annotated[Caller, Depends(allow("admin"))]) -> Response:
    """Return figures of the whole pipeline, read from Kafka; all processes return the same.

    Figures that cannot be read are omitted and named in `notes`. The first request after a pause takes some seconds,
    because it reads the last five minutes.
    """
    return json_answer(await parts_of(request).live.operations.figures(), headers={"Cache-Control": "no-store"})
