"""The OpenAPI document tells of credentials, problems and image paths what is so."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.responses import Response

from app.api.answers import json_answer
from app.api.application import build_application
from app.api.guards.auth import Caller, allow
from app.api.paths import image_key
from app.api.routes.system import router as system
from tests.support.api.in_process import client_of, memory_parts


async def _image(
    where: Annotated[tuple[str, str], Depends(image_key)],
    caller: Annotated[Caller, Depends(allow("read"))],
    wait: float = 0,
) -> Response:
    return json_answer([*where, caller.name, wait])


async def test_an_image_route_is_told_whole() -> None:
    app = build_application(memory_parts(), routers=(system,))
    app.add_api_route("/v1/images/{bucket}/{key}/explain", _image)
    async with client_of(app) as client:
        document = (await client.get("/openapi.json")).json()
        assert (await client.get("/openapi.json")).json() == document
    told = document["paths"]["/v1/images/{bucket}/{key}/explain"]["get"]
    assert {(one["name"], one["in"]) for one in told["parameters"]} == {
        *(("bucket", "path"), ("key", "path"), ("wait", "query"))
    }
    assert told["security"] == [{"api_key": ["read"]}, {"api_key_header": ["read"]}, {"session": ["read"]}]
    for status in ("400", "401", "403", "422", "429", "503"):
        assert list(told["responses"][status]["content"]) == ["application/problem+json"]
    assert "security" not in document["paths"]["/healthz"]["get"]
    assert document["components"]["schemas"].keys() == {"Problem"}
    assert document["components"]["securitySchemes"].keys() == {"api_key", "api_key_header", "session"}
