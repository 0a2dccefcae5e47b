"""Who is let in, and what the others are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI
from starlette.responses import Response

from app.access.keys import KeyRing
from app.api.answers import json_answer
from app.api.application import build_application
from app.api.dependencies import ApiParts
from app.api.guards.auth import Caller, allow
from app.domain.api_keys import SCOPES, Token
from app.settings import ApiSettings, Settings
from tests.support.api.in_process import bearer, client_of, give_key, memory_parts
from tests.support.manual_clock import ManualClock
from tests.support.memory.sessions import MemorySessions

CONSOLE = {"X-Sightline-Console": "1"}


def application(parts: ApiParts) -> FastAPI:
    app = build_application(parts)
    for scope in SCOPES:
        permitted = Depends(allow(scope))

        async def route(caller: Caller = permitted) -> Response:
            return json_answer({"id": caller.key_id, "name": caller.name, "scopes": sorted(caller.scopes)})

        app.add_api_route(f"/try/{scope}", route, methods=["GET", "POST"])
    return app


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def parts(clock: ManualClock) -> ApiParts:
    return memory_parts(clock=clock)


@pytest_asyncio.fixture
async def client(parts: ApiParts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(application(parts)) as client:
        yield client


async def sign_in(client: httpx.AsyncClient, token: Token) -> httpx.Response:
    return await client.post("/console/session", json={"key": token.text()})


def without_id(answer: httpx.Response) -> tuple[int, Mapping[str, Any], str | None]:
    body = {name: value for name, value in answer.json().items() if name != "request_id"}
    return answer.status_code, body, answer.headers.get("www-authenticate")


@pytest.mark.parametrize("header", ["bearer", "x-api-key"])
async def test_a_key_is_let_in_by_either_header(client: httpx.AsyncClient, parts: ApiParts, header: str) -> None:
    token, key = give_key(parts, ["read", "score"], name="shop")
    headers = bearer(token) if header == "bearer" else {"X-Api-Key": token.text()}
    for _ in range(2):
        answer = await client.get("/try/read", headers=headers)
        assert (answer.status_code, answer.json()) == (
            200,
            {"id": key.id, "name": "shop", "scopes": ["read", "score"]},
        )


async def test_whatever_is_wrong_with_a_key_the_answer_is_one(
    client: httpx.AsyncClient, parts: ApiParts, clock: ManualClock
) -> None:
    right, _ = give_key(parts, ["read"])
    expired, _ = give_key(parts, ["read"], name="expired", expires_ms=clock.now_ms())
    revoked, key = give_key(parts, ["read"], name="revoked")
    parts.keys.learn(key.id, key.revoke(), 50)
    offered = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Basic {right.text()}"},
        {"X-Api-Key": ""},
        bearer(replace(right, key_id="a" * 12)),
        bearer(replace(right, secret=expired.secret)),
        bearer(expired),
        bearer(revoked),
        # The header counts, even if a good key stands in the other one.
        {"Authorization": "Bearer nonsense", "X-Api-Key": right.text()},
        {"Cookie": "sightline_session=nonsense"},
    ]
    answers = [without_id(await client.get("/try/read", headers=headers)) for headers in offered]
    assert answers == [answers[0]] * len(offered)
    status, body, authenticate = answers[0]
    assert (status, body["code"], authenticate) == (401, "unauthorized", 'Bearer realm="sightline"')


@pytest.mark.parametrize("path", ["/v1/images:batchGet", "/v1/decisions", "/v1/queue/lease"])
async def test_a_body_of_nobody_is_not_read(client: httpx.AsyncClient, parts: ApiParts, path: str) -> None:
    """What is wrong with it, only a key that may send it is told; with it the request counts once."""
    broken: dict[str, Any] = {"content": b"{no", "headers": {"Content-Type": "application/json"}}
    assert (await client.post(path, **broken)).status_code == 401
    broken["headers"] |= bearer(give_key(parts, ["admin"], name="other")[0])
    assert (await client.post(path, **broken)).status_code == 403
    right, _ = give_key(parts, ["read", "moderate", "score"], name="right", rate_per_second=1.0)
    broken["headers"] |= bearer(right)
    statuses = [(await client.post(path, **broken)).status_code for _ in range(3)]
    assert statuses == [422, 422, 429]


@pytest.mark.parametrize("held", SCOPES)
async def test_no_scope_holds_another(client: httpx.AsyncClient, parts: ApiParts, held: str) -> None:
    token, _ = give_key(parts, [held])
    for asked in SCOPES:
        answer = await client.get(f"/try/{asked}", headers=bearer(token))
        if asked == held:
            assert answer.status_code == 200
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert answer.json()["needed_scope"] == asked


async def test_while_no_key_was_read_nobody_is_called_a_stranger(clock: ManualClock) -> None:
    parts = memory_parts(clock=clock)
    token, _ = give_key(parts, ["read"])
    parts.keys = KeyRing(clock)
    async with client_of(application(parts)) as client:
        answer = await client.get("/try/read", headers=bearer(token))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "2"


async def test_a_key_that_comes_too_often_is_told_when_to_come_again(
    client: httpx.AsyncClient, parts: ApiParts, clock: ManualClock
) -> None:
    token, _ = give_key(parts, ["read"], rate_per_second=0.5)
    assert (await client.get("/try/read", headers=bearer(token))).status_code == 200
    answer = await client.get("/try/read", headers=bearer(token))
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (429, "rate_limited", "2")
    await clock.sleep(2)
    assert (await client.get("/try/read", headers=bearer(token))).status_code == 200


async def test_a_session_stands_for_its_key(client: httpx.AsyncClient, parts: ApiParts) -> None:
    token, key = give_key(parts, ["moderate"], name="Ada")
    answer = await sign_in(client, token)
    assert (answer.status_code, answer.json()) == (200, {"name": "Ada", "scopes": ["moderate"]})
    assert (await client.get("/console/session")).json() == {"name": "Ada", "scopes": ["moderate"]}
    assert (await client.get("/try/moderate")).json()["id"] == key.id
    assert (await client.get("/try/read")).status_code == 403


async def test_the_cookie_is_for_this_site_and_no_script(client: httpx.AsyncClient, parts: ApiParts) -> None:
    token, _ = give_key(parts, ["moderate"])
    answer = await sign_in(client, token)
    (cookie,) = answer.headers.get_list("set-cookie")
    fields = {field.strip().lower() for field in cookie.split(";")[1:]}
    assert fields == {"httponly", "samesite=strict", "path=/", "max-age=43200"}
    assert answer.headers["cache-control"] == "no-store"


async def test_the_cookie_is_for_https_alone_where_the_setting_says_so(clock: ManualClock) -> None:
    parts = memory_parts(Settings(api=ApiSettings(secure_cookies=True)), clock)
    token, _ = give_key(parts, ["moderate"])
    async with client_of(application(parts)) as client:
        assert "; Secure" in (await sign_in(client, token)).headers["set-cookie"]


async def test_the_store_of_sessions_holds_nothing_that_opens_one(client: httpx.AsyncClient, parts: ApiParts) -> None:
    token, _ = give_key(parts, ["moderate"])
    await sign_in(client, token)
    assert isinstance(parts.sessions, MemorySessions)
    ((digest, session),) = parts.sessions.kept.items()
    cookie = client.cookies["sightline_session"]
    assert len(cookie) == 43
    assert cookie not in digest + repr(session)
    assert token.secret not in repr(session)
    stolen = await client.get("/try/moderate", headers={"Cookie": f"sightline_session={digest}"})
    assert stolen.status_code == 401


async def test_what_changes_something_by_cookie_needs_the_console_header(
    client: httpx.AsyncClient, parts: ApiParts
) -> None:
    token, _ = give_key(parts, ["moderate"])
    await sign_in(client, token)
    refused = await client.post("/try/moderate")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await client.delete("/console/session")).status_code == 403
    assert (await client.post("/try/moderate", headers=CONSOLE)).status_code == 200
    client.cookies.clear()
    assert (await client.post("/try/moderate", headers=bearer(token))).status_code == 200


async def test_signing_out_ends_the_session(client: httpx.AsyncClient, parts: ApiParts) -> None:
    token, _ = give_key(parts, ["moderate"])
    await sign_in(client, token)
    kept = {"Cookie": f"sightline_session={client.cookies['sightline_session']}"}
    answer = await client.delete("/console/session", headers=CONSOLE)
    assert answer.status_code == 204
    assert "sightline_session" not in client.cookies
    assert (await client.get("/console/session", headers=kept)).status_code == 401
    assert (await client.delete("/console/session", headers=CONSOLE)).status_code == 204


async def test_a_session_ends_with_its_key_and_by_itself(
    client: httpx.AsyncClient, parts: ApiParts, clock: ManualClock
) -> None:
    token, key = give_key(parts, ["moderate"])
    await sign_in(client, token)
    parts.keys.learn(key.id, key.revoke(), 60)
    assert (await client.get("/try/moderate")).status_code == 401
    assert (await client.get("/console/session")).status_code == 401
    parts.keys.learn(key.id, key, 61)
    assert (await client.get("/try/moderate")).status_code == 200
    await clock.sleep(12 * 3600)
    kept = {"Cookie": f"sightline_session={client.cookies['sightline_session']}"}
    assert (await client.get("/try/moderate", headers=kept)).status_code == 401


async def test_without_redis_a_session_is_asked_for_again_later_and_a_key_still_works(
    client: httpx.AsyncClient, parts: ApiParts
) -> None:
    token, _ = give_key(parts, ["moderate"])
    await sign_in(client, token)
    assert isinstance(parts.sessions, MemorySessions)
    parts.sessions.available = False
    assert (await client.get("/try/moderate")).status_code == 503
    assert (await sign_in(client, token)).status_code == 503
    assert (await client.get("/try/moderate", headers=bearer(token))).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"key": 7}', b'{"token": "slk_"}'])
async def test_a_sign_in_that_says_no_key_is_told_so(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/console/session", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_a_form_of_a_strangers_page_signs_nobody_in(client: httpx.AsyncClient, parts: ApiParts) -> None:
    token, _ = give_key(parts, ["moderate"])
    body = f'{{"key": "{token.text()}"}}'
    answer = await client.post("/console/session", content=body, headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_who_tries_keys_is_not_listened_to_for_a_while(
    client: httpx.AsyncClient, parts: ApiParts, clock: ManualClock
) -> None:
    token, _ = give_key(parts, ["moderate"])
    wrong = replace(token, secret="a" * 43)
    statuses = [(await sign_in(client, wrong)).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    refused = await sign_in(client, token)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "10"
    await clock.sleep(10)
    assert (await sign_in(client, token)).status_code == 200


async def test_two_sessions_of_a_key_are_two(client: httpx.AsyncClient, parts: ApiParts) -> None:
    token, _ = give_key(parts, ["moderate"])
    first, second = await asyncio.gather(sign_in(client, token), sign_in(client, token))
    assert first.headers["set-cookie"] != second.headers["set-cookie"]
