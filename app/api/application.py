"""The application: routers, error handlers, middleware, in one place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.api.bodies import BodyLimits
from app.api.dependencies import ApiParts
from app.api.guards.security_headers import SecurityHeaders
from app.api.middleware import REQUEST_ID_HEADER, Observed
from app.api.openapi import DocumentedApi
from app.api.paths import ImagePaths
from app.api.problems import add_handlers
from app.api.routes.console import router as console
from app.api.routes.decisions import router as decisions
from app.api.routes.explain import router as explain
from app.api.routes.images import router as images
from app.api.routes.models import router as models
from app.api.routes.operations import router as operations
from app.api.routes.preview import router as preview
from app.api.routes.queue import router as queue
from app.api.routes.score import router as score
from app.api.routes.session import router as session
from app.api.routes.stream import router as stream
from app.api.routes.system import router as system

ROUTERS: Final = (
    *(images, preview, explain, score, decisions, queue, stream),
    *(operations, models, session, system, console),
)


def build_application(parts: ApiParts, routers: Sequence[APIRouter] = ROUTERS) -> FastAPI:
    """Return the ASGI application with these routes. Has no other effect."""
    app = _routed(routers)
    app.state.parts = parts
    add_handlers(app)
    _add_middleware(app, parts)
    return app


def openapi_page() -> str:
    """Return the OpenAPI document in the form of docs/openapi.json. Needs no server and no model."""
    return json.dumps(_routed(ROUTERS).openapi(), indent=2, ensure_ascii=False) + "\n"


def _routed(routers: Sequence[APIRouter]) -> DocumentedApi:
    app = DocumentedApi()
    for router in routers:
        app.add(router)
    return app


def _add_middleware(app: FastAPI, parts: ApiParts) -> None:
    """Add middleware from the inside to the outside: the last one sees a request first and its answer last."""
    settings = parts.settings.api
    app.add_middleware(ImagePaths)
    app.add_middleware(BodyLimits, picture_bytes=settings.max_body_bytes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-Api-Key", "Content-Type", "X-Deadline-Ms", "Idempotency-Key"],
            expose_headers=[REQUEST_ID_HEADER, "Retry-After", "ETag"],
        )
    app.add_middleware(Observed, clock=parts.clock, meters=parts.meters, lines=settings.access_log)
    app.add_middleware(SecurityHeaders)
