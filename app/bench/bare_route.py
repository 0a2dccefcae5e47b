"""The least that a look-up by HTTP can be: a FastAPI route that reads one value from Redis and returns its bytes.

Served as the query service is: uvicorn, httptools, uvloop, one process. No keys, no limits, no ETag, no records.
"""

from __future__ import annotations

from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response

from app.settings import Settings
from app.systems.redis.client import connect


async def serve_bare_route(settings: Settings, port: int) -> None:
    """Serve GET /bare/{bucket}/{key} on loopback until SIGTERM."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    redis: Any = connect(settings.redis)
    prefix = settings.redis.prefix

    @app.get("/bare/{bucket}/{key:path}")
    async def bare(bucket: str, key: str) -> Response:
        value: bytes | None = await redis.get(f"{prefix}i:{{{bucket}/{key}}}")
        if value is None:
            return Response(status_code=404)
        return Response(value, media_type="application/octet-stream")

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response()

    config = uvicorn.Config(app, host="127.0.0.1", port=port, http="httptools", log_config=None, access_log=False)
    await uvicorn.Server(config).serve()
