"""Health, readiness, metrics."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from app.api.answers import json_answer
from app.api.dependencies import parts_of
from app.api.documents import SWITCH, TEXT, answer, listed, problem, record
from app.api.problems import RETRY_SECONDS, Problem
from app.api.readiness import readiness

router = APIRouter()
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_NEVER_KEPT: Final = {"Cache-Control": "no-store"}
_READINESS: Final = record(ready=SWITCH, checks=listed(record(name=TEXT, ok=SWITCH, detail=TEXT)))


@router.get(
    "/healthz",
    tags=["system"],
    summary="Whether the process lives",
    response_model=None,
    responses={200: answer("the process lives", record(healthy=SWITCH))},
)
async def get_health() -> Response:
    """Return 200 while the process lives."""
    return json_answer({"healthy": True})


@router.get(
    "/readyz",
    tags=["system"],
    summary="Whether requests can be answered",
    response_model=None,
    responses={
        200: answer("all systems that requests need answer", _READINESS),
        503: problem("`not_ready`: a system does not answer; `checks` say which"),
    },
)
async def get_readiness(request: Request) -> Response:
    """Return the result of each readiness check within two seconds; 503 if one fails."""
    ready, checks = await readiness(parts_of(request).checks)
    if not ready:
        away = "; ".join(f"{check['name']}: {check['detail']}" for check in checks if not check["ok"])
        headers = {"Retry-After": str(RETRY_SECONDS), **_NEVER_KEPT}
        raise Problem(503, "not_ready", away, headers=headers, ready=False, checks=checks)
    return json_answer({"ready": True, "checks": checks}, headers=_NEVER_KEPT)


@router.get(
    "/metrics",
    tags=["system"],
    summary="Metrics of this process",
    response_class=PlainTextResponse,
    response_model=None,
    responses={200: answer("metrics of this process (docs/metrics.md)", TEXT, "text/plain")},
)
async def get_metrics(request: Request) -> Response:
    """Return metrics in the text format of Prometheus."""
    return Response(parts_of(request).meters.text(), media_type=_PROMETHEUS)
