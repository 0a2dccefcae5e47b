"""The application: routers, error handlers, middleware, in one place."""

from __future__ import annotations

from fastapi import FastAPI

from app import __version__
from app.api.parts import ApiParts
from app.api.problems import add_handlers
from app.api.routes_explain import router as explain
from app.api.routes_models import router as models
from app.api.routes_operations import router as operations
from app.api.routes_stream import router as stream
from app.api.routes_system import router as system


def build_application(parts: ApiParts) -> FastAPI:
    """Return the ASGI application on `parts`. Has no effect but that."""
    app = FastAPI(title="Sightline", version=__version__, docs_url=None, redoc_url=None)
    app.state.parts = parts
    add_handlers(app)
    for router in (system, explain, models, operations, stream):
        app.include_router(router)
    return app
