"""Decisions of moderators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from starlette.responses import Response

from app.api.answers import json_answer
from app.api.dependencies import parts_of
from app.api.documents import COMMON, problems
from app.api.guards.auth import Caller, KeyFirst, allow
from app.api.models import DecideRequest, MadeDecision
from app.api.problems import RETRY_SECONDS, Problem
from app.api.views import made_decision_view
from app.moderation.decisions import DecisionRefused, DecisionRequest

router = APIRouter(tags=["moderation"], route_class=KeyFirst)
_STATUS = {
    "unknown_image": 404,
    "unknown_decision": 409,
    "flag_changed": 409,
    "already_decided": 409,
    "id_taken": 409,
    "in_progress": 503,
}


@router.post(
    "/v1/decisions",
    status_code=201,
    response_model=MadeDecision,
    responses={
        200: {"model": MadeDecision, "description": "It was made before, by the same request."},
        **problems(*COMMON, 404, 409, 413),
    },
)
async def make_decision(
    request: Request,
    asked: DecideRequest,
    caller: Annotated[Caller, Depends(allow("moderate"))],
    idempotency_key: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """Decide on an image: approve, reject or skip it. The decision is on its topic before the answer is sent.

    A later decision replaces an earlier one; both stay in the history. To withdraw a decision, send `skip` and name it
    in `reverses`: the image then waits again. Idempotent: a request with the same `decision_id` (or Idempotency-Key,
    which must then be equal) returns the same decision.
    """
    if idempotency_key is not None and idempotency_key != asked.decision_id:
        raise Problem(422, "invalid_request", "Idempotency-Key and decision_id differ; send one of them")
    wanted = DecisionRequest(
        asked.decision_id, asked.bucket, asked.key, asked.decision, asked.reason, asked.flag_id, asked.reverses
    )
    try:
        made = await parts_of(request).decisions.decide(caller.name, wanted)
    except DecisionRefused as refused:
        status = _STATUS[refused.code]
        headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else None
        raise Problem(status, refused.code, str(refused), headers=headers) from refused
    return json_answer(made_decision_view(made.record), 200 if made.repeated else 201)
