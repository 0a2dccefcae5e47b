"""Bucket and key of a path are exactly what the client meant, through the whole application."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote, unquote

import httpx
import orjson
import pytest
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from app.api.answers import json_answer
from app.api.application import build_application
from app.api.paths import image_key
from tests.support.api.in_process import client_of, memory_parts

Where = Annotated[tuple[str, str], Depends(image_key)]


async def _image(where: Where) -> Response:
    return json_answer([*where, ""])


async def _explain(where: Where) -> Response:
    return json_answer([*where, "explain"])


def _application() -> FastAPI:
    app = build_application(memory_parts(), routers=())
    app.add_api_route("/v1/images/{bucket}/{key}", _image)
    app.add_api_route("/v1/images/{bucket}/{key}/explain", _explain)
    return app


APP = _application()
# All of Unicode that UTF-8 can write, but NUL.
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
BUCKETS = st.text(LETTERS, min_size=1, max_size=63)
KEYS = st.text(LETTERS, min_size=1, max_size=256)
# Keys that mean something to whoever takes a path for a path.
TRICKY = st.lists(
    st.sampled_from(["..", ".", "", "a", "%2F", "explain", "history", "?", "#", "+", " "]), min_size=1
).map("/".join)


def _everything(text: str) -> str:
    """Percent-encode also the dots, which a client may take out of a path before it is sent."""
    return quote(text, safe="").replace(".", "%2E")


async def _raw(path: str) -> tuple[int, Any]:
    """Ask for `path` as it stands: a client's own cleaning of it is left out."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    await APP(scope, receive, send)
    return sent[0]["status"], orjson.loads(sent[1]["body"])


@given(BUCKETS, KEYS | TRICKY.filter(bool))
def test_bucket_and_key_as_one_segment_each_arrive_as_they_are(bucket: str, key: str) -> None:
    async def ask() -> httpx.Response:
        async with client_of(APP) as client:
            return await client.get(f"/v1/images/{_everything(bucket)}/{_everything(key)}")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()) == (200, [bucket, key, ""])


@given(BUCKETS, KEYS)
def test_a_sub_resource_is_one_of_exactly_that_key(bucket: str, key: str) -> None:
    async def ask() -> httpx.Response:
        async with client_of(APP) as client:
            return await client.get(f"/v1/images/{_everything(bucket)}/{_everything(key)}/explain?x=1")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()) == (200, [bucket, key, "explain"])


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("b/shop/2026/a.jpg", ["b", "shop/2026/a.jpg", ""]),
        ("b/shop%2F2026/a.jpg", ["b", "shop/2026/a.jpg", ""]),
        ("b/a/explain", ["b", "a", "explain"]),
        ("b/a%2Fexplain", ["b", "a/explain", ""]),
        ("b/a%2Fexplain/explain", ["b", "a/explain", "explain"]),
        ("b/a/b%2Fexplain", ["b", "a/b/explain", ""]),
        ("b/explain", ["b", "explain", ""]),
        ("b/explain/explain", ["b", "explain", "explain"]),
        ("b//explain", ["b", "/explain", ""]),
        ("b/a/Explain", ["b", "a/Explain", ""]),
        ("b/a/expl%61in", ["b", "a/explain", ""]),
        ("b/a/explain/", ["b", "a/explain/", ""]),
        ("b/a//explain", ["b", "a/", "explain"]),
        ("b//a///c/", ["b", "/a///c/", ""]),
        ("b//", ["b", "/", ""]),
        ("b/../other/secret", ["b", "../other/secret", ""]),
        ("b/a/../../c/d", ["b", "a/../../c/d", ""]),
        ("b/..", ["b", "..", ""]),
        ("../k", ["..", "k", ""]),
        ("b/%2e%2e%2fk", ["b", "../k", ""]),
        ("b/a%252Fb", ["b", "a%2Fb", ""]),
        ("b/a+b", ["b", "a+b", ""]),
        ("b/%C3%A9", ["b", "é", ""]),
        ("b%2Fc/k", ["b/c", "k", ""]),
    ],
)
async def test_a_path_is_read_as_it_stands(path: str, found: list[str]) -> None:
    assert await _raw(f"/v1/images/{path}") == (200, found)


@pytest.mark.parametrize(
    "path",
    [
        "b/",
        "/k",
        "b/%ff",
        "b/%C3",
        "b/%ED%A0%80",
        "b/a%00b",
        "%00/k",
        "b/100%",
        "b/%zz",
        "b/" + "a" * 1025,
        "a" * 256 + "/k",
    ],
)
async def test_what_can_be_no_key_is_refused(path: str) -> None:
    status, body = await _raw(f"/v1/images/{path}")
    assert (status, body["code"]) == (400, "invalid_key")


async def test_a_key_may_have_1024_bytes() -> None:
    assert await _raw("/v1/images/b/" + "%C3%A9" * 512) == (200, ["b", "é" * 512, ""])


@pytest.mark.parametrize(
    "path", ["/v1/images/b", "/v1/images/b%2Fk", "/v1/%69mages/b/k", "/v1%2Fimages/b/k", "/v1/images"]
)
async def test_what_only_decodes_to_an_image_is_none(path: str) -> None:
    status, body = await _raw(path)
    assert (status, body["code"]) == (404, "no_such_route")
