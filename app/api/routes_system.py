"""Health, readiness, metrics."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from app.api.answers import json_answer

router = APIRouter()


@router.get("/healthz", tags=["system"])
async def healthz() -> Response:
    """Whether the process lives."""
    return json_answer({"healthy": True})
