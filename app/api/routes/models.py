"""GET /v1/models and /v1/policies: the models that score pictures, and the rules of the policy."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from app.api.answers import tagged_answer
from app.api.dependencies import parts_of
from app.api.documents import COUNT, NUMBER, SWITCH, TEXT, UNIX_MS, answer, by_name, guarded, listed, record
from app.api.guards.auth import Caller, allow
from app.api.problems import Problem
from app.domain.policy.rules import ACTIONS
from app.errors import ConfigurationError, ManifestError, PolicyError, Retryable

router = APIRouter()
_MODELS: Final = record(
    models=listed(
        record(
            name=TEXT,
            version=TEXT,
            kind={"type": "string", "enum": ["network", "head", "cascade"]},
            runtime=TEXT,
            active={**SWITCH, "description": "whether workers with these settings run it"},
            labels=listed(TEXT),
            needs=listed(TEXT, "models that must have answered before it"),
            thresholds=by_name(NUMBER, "label → the score from which on its reason is given"),
            reasons=by_name(record(code=TEXT, advice=TEXT), "label → what the seller is told"),
            licence=TEXT,
            trained_on=TEXT,
            quality=by_name(NUMBER, "measured figures (docs/models.md)"),
        )
    )
)
_POLICIES: Final = record(
    policy=record(
        name=TEXT,
        version={**TEXT, "description": "version and digest, as flags name it"},
        description=TEXT,
        rules=listed(
            record(
                rule=TEXT,
                action={"type": "string", "enum": list(ACTIONS)},
                severity=COUNT,
                description=TEXT,
                when={**TEXT, "description": "the condition in words"},
            )
        ),
    ),
    recorded=listed(
        record(name=TEXT, version=TEXT, written_ms=UNIX_MS, written_by=TEXT), "versions that workers decided by"
    ),
    notes=listed(TEXT, "what could not be read, and why"),
)


@router.get(
    "/v1/models",
    tags=["models"],
    summary="Every model version, and which are active",
    response_model=None,
    responses=guarded("read", {200: answer("the models", _MODELS)}),
)
async def list_models(request: Request, _: Annotated[Caller, Depends(allow("read"))]) -> Response:
    """Return the models in the folder of this process, by name and version."""
    try:
        models = await parts_of(request).live.models.get()
    except (ManifestError, ConfigurationError) as error:
        raise Problem(503, "unavailable", str(error)) from error
    return tagged_answer(request, {"models": models})


@router.get(
    "/v1/policies",
    tags=["models"],
    summary="The moderation policy, and its versions",
    response_model=None,
    responses=guarded("read", {200: answer("the policy of this process, and those that workers applied", _POLICIES)}),
)
async def list_policies(request: Request, _: Annotated[Caller, Depends(allow("read"))]) -> Response:
    """Return the configured policy with its rules in words, and the versions that `control.v1` keeps."""
    live = parts_of(request).live
    notes = []
    try:
        policy = await live.policy.get()
    except PolicyError as error:
        raise Problem(503, "unavailable", str(error)) from error
    try:
        recorded = await live.recorded.get()
    except Retryable as error:
        recorded = live.recorded.known or []
        notes.append(f"the recorded versions cannot be read: {error}")
    return tagged_answer(request, {"policy": policy, "recorded": recorded, "notes": notes})
