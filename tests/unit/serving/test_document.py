"""What the OpenAPI document says of the live side."""

from __future__ import annotations

from typing import Any

import pytest

from app.api.event_stream import server_event
from app.api.openapi import DocumentedApi
from app.api.problems import PROBLEM_JSON
from app.api.routes.explain import router as explain
from app.api.routes.models import router as models
from app.api.routes.operations import router as operations
from app.api.routes.stream import router as stream

PATHS = {
    "/v1/stream/flagged": "text/event-stream",
    "/v1/operations": "application/json",
    "/v1/models": "application/json",
    "/v1/policies": "application/json",
    "/v1/images/{bucket}/{key}/explain": "application/json",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app = DocumentedApi()
    for router in (explain, models, operations, stream):
        app.add(router)
    found: dict[str, Any] = app.openapi()
    return found


@pytest.mark.parametrize(("path", "media_type"), PATHS.items())
def test_every_answer_is_documented_as_what_it_is(document: dict[str, Any], path: str, media_type: str) -> None:
    responses = document["paths"][path]["get"]["responses"]
    assert {"200", "401", "403", "422", "429", "503"} <= set(responses)
    for status, response in responses.items():
        assert list(response["content"]) == [media_type if status == "200" else PROBLEM_JSON]


def test_a_block_of_an_event_stream_is_as_the_standard_has_it() -> None:
    assert server_event(event_id="a", event="flagged", data=b"{}") == b"id: a\nevent: flagged\ndata: {}\n\n"
    assert server_event(event_id="a", comment="two\nlines", retry_ms=5) == b": two lines\nretry: 5\nid: a\n\n"
