"""Health, readiness, metrics."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from app.api.answers import json_answer
from app.api.documents import SWITCH, TEXT, answer, listed, record
from app.api.parts import parts_of
from app.api.readiness import readiness

router = APIRouter()
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_READINESS: Final = record(ready=SWITCH, checks=listed(record(name=TEXT, ok=SWITCH, detail=TEXT)))


@router.get(
    "/healthz",
    tags=["system"],
    response_model=None,
    responses={200: answer("it lives", record(healthy=SWITCH))},
)
async def healthz() -> Response:
    """Whether the process lives."""
    return json_answer({"healthy": True})


@router.get(
    "/readyz",
    tags=["system"],
    response_model=None,
    responses={
        200: answer("all that requests need is there", _READINESS),
        503: answer("something is away; the checks say what", _READINESS),
    },
)
async def readyz(request: Request) -> Response:
    """Whether requests can be answered: each check with its result, within two seconds."""
    ready, checks = await readiness(parts_of(request).checks)
    return json_answer({"ready": ready, "checks": checks}, 200 if ready else 503, {"Cache-Control": "no-store"})


@router.get(
    "/metrics",
    tags=["system"],
    response_class=PlainTextResponse,
    response_model=None,
    responses={200: answer("metrics of this process (docs/metrics.md)", TEXT, "text/plain")},
)
async def metrics(request: Request) -> Response:
    """Metrics in the text form of Prometheus."""
    return Response(parts_of(request).meters.text(), media_type=_PROMETHEUS)
