"""The application: routers, error handlers, middleware, in one place."""

from __future__ import annotations

from fastapi import FastAPI

from app import __version__
from app.api.parts import ApiParts
from app.api.problems import add_handlers
from app.api.routes_preview import router as preview
from app.api.routes_score import router as score
from app.api.routes_system import router as system


def build_application(parts: ApiParts) -> FastAPI:
    """Return the ASGI application on `parts`. Has no effect but that."""
    app = FastAPI(title="Sightline", version=__version__, docs_url=None, redoc_url=None)
    app.state.parts = parts
    add_handlers(app)
    for router in (system, score, preview):
        app.include_router(router)
    return app
