"""Around the routes: ids, headers, the access line, metrics, failures, bodies."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from app import logs
from app.api.answers import json_answer
from app.api.application import ROUTERS, build_application
from app.api.dependencies import ApiParts
from app.api.guards.security_headers import API_CSP, CONSOLE_CSP
from app.api.routes.score import router as score
from app.errors import BrokerUnavailable
from app.settings import ApiSettings, Settings, WorkerSettings
from app.systems.prometheus import PrometheusMeters
from tests.support.api.in_process import bearer, client_of, give_key, memory_parts

MIB = 1024 * 1024


def application(parts: ApiParts) -> FastAPI:
    # Without the route that scores, in whose place one tells what comes through.
    app = build_application(parts, [one for one in ROUTERS if one is not score])

    @app.get("/try/fails")
    async def fails() -> Response:
        raise LookupError("inner detail")

    @app.get("/try/fails-late")
    async def fails_late() -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"begun"
            raise LookupError("inner detail")

        return StreamingResponse(body())

    @app.get("/try/away")
    async def away() -> Response:
        raise BrokerUnavailable("Kafka is away")

    @app.get("/console/page")
    async def page() -> Response:
        return Response("page", media_type="text/html")

    @app.get("/try/own-policy")
    async def own_policy() -> Response:
        return Response("x", headers={"Content-Security-Policy": "default-src 'self'"})

    @app.post("/v1/score")
    @app.post("/try/body")
    async def body(request: Request) -> Response:
        return json_answer({"bytes": len(await request.body())})

    @app.post("/try/parsed")
    async def parsed(picture: dict[str, Any]) -> Response:
        return json_answer(picture)

    @app.post("/try/stubborn")
    async def stubborn(request: Request) -> Response:
        try:
            await request.body()
        except HTTPException:
            return Response("swallowed")
        return Response("whole")

    return app


async def ask(parts: ApiParts, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> httpx.Response:
    async with client_of(application(parts)) as client:
        return await client.request(method, path, headers=headers or {})


@pytest.mark.parametrize("given", ["a", "Trace-1.2_3", "x" * 64])
async def test_a_sane_request_id_is_taken(given: str) -> None:
    answer = await ask(memory_parts(), "/healthz", {"X-Request-Id": given})
    assert answer.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a/b", "<script>", "a\tb"])
async def test_any_other_is_replaced(given: str) -> None:
    answer = await ask(memory_parts(), "/healthz", {"X-Request-Id": given})
    (made,) = answer.headers.get_list("x-request-id")
    assert re.fullmatch(r"[0-9a-f]{16}", made)


@pytest.mark.parametrize("path", ["/nowhere", "/v1/images/b/%ff", "/try/fails", "/console/session", "/try/away"])
async def test_every_answer_carries_its_id_and_the_headers(path: str) -> None:
    answer = await ask(memory_parts(), path)
    assert answer.status_code >= 400
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_a_page_of_the_console_loads_nothing_of_others() -> None:
    parts = memory_parts()
    assert (await ask(parts, "/console/page")).headers["content-security-policy"] == CONSOLE_CSP
    assert (await ask(parts, "/healthz")).headers["content-security-policy"] == API_CSP
    own = (await ask(parts, "/try/own-policy")).headers.get_list("content-security-policy")
    assert own == ["default-src 'self'"]
    for policy in (CONSOLE_CSP, API_CSP):
        assert "frame-ancestors 'none'" in policy


async def test_a_failure_of_ours_tells_its_id_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    answer = await ask(memory_parts(), "/try/fails")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "inner" not in answer.text
    assert "Lookup" not in answer.text
    (told,) = [record for record in caplog.records if record.exc_info]
    assert answer.json()["request_id"] in told.getMessage()
    assert "LookupError: inner detail" in logging.Formatter().format(told)


async def test_a_failure_after_the_answer_began_is_logged_once_and_cuts_it(caplog: pytest.LogCaptureFixture) -> None:
    sent = await call(application(memory_parts()), "/try/fails-late", b"", method="GET")
    assert [message.get("more_body") for message in sent] == [None, True]
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_one_line_says_what_happened(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.api.access")
    parts = memory_parts(Settings(api=ApiSettings(access_log="all")))
    token, key = give_key(parts, ["read"])
    async with client_of(application(parts)) as client:
        await client.post("/console/session", json={"key": token.text()}, headers={"X-Request-Id": "r1"})
    (record,) = [record for record in caplog.records if record.name == "app.api.access"]
    fields = record.__dict__["fields"]
    assert fields == {
        "method": "POST",
        "route": "/console/session",
        "status": 200,
        "ms": 0.0,
        "bytes": len(orjson.dumps({"name": "tester", "scopes": ["read"]})),
        "key_id": key.id,
        "request_id": "r1",
    }
    assert record.getMessage() == f"POST /console/session 200 in 0.00 ms, 35 bytes, key {key.id}, request r1"


def test_json_lines_hold_the_fields() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.set_up(WorkerSettings(log_format="json"))
        formatter = root.handlers[0].formatter
    finally:
        root.handlers[:], root.level = before, level
    assert formatter is not None
    record = logging.LogRecord("x", logging.INFO, "", 0, "said", (), None)
    record.fields = {"status": 200}
    line = json.loads(formatter.format(record))
    assert (line["message"], line["status"]) == ("said", 200)


async def test_logs_hold_no_credentials(caplog: pytest.LogCaptureFixture) -> None:
    # The test's own client logs the addresses that it asks for.
    for name in ("httpx", "httpcore"):
        caplog.set_level(logging.WARNING, name)
    caplog.set_level(logging.DEBUG)
    parts = memory_parts()
    token, _ = give_key(parts, ["moderate"])
    secrets = [token.secret]
    async with client_of(application(parts)) as client:
        await client.post("/console/session", json={"key": token.text()})
        secrets.append(client.cookies["sightline_session"])
        await client.get("/console/session")
        await client.post("/console/session", json={"key": token.text() + "x"})
        await client.post("/console/session", json={"kay": token.text()})
        await client.get("/try/fails", headers=bearer(token))
        await client.get("/try/fails", headers={"X-Api-Key": token.text()})
        await client.get(f"/nowhere?key={token.text()}", headers=bearer(token))
        await client.get(f"/nowhere/{token.text()}")
        await client.get(f"/nowhere/a%0d%0aforged?token={token.text()}")
        await client.post("/try/parsed", content=f'{{"picture": "{token.text()}"')
    written = "\n".join(logging.Formatter().format(record) + repr(record.__dict__) for record in caplog.records)
    assert "/nowhere/slk_***" in written
    assert "/nowhere/a%0d%0aforged" in written
    assert [secret for secret in secrets if secret in written] == []


async def test_metrics_count_by_route_and_never_by_path() -> None:
    parts = memory_parts()
    for path in ("/healthz", "/healthz", "/nowhere/1", "/nowhere/2", "/try/fails"):
        await ask(parts, path)
    await ask(parts, "/healthz", method="BREW")
    assert isinstance(parts.meters, PrometheusMeters)
    text = parts.meters.text().decode()
    counted = set(re.findall(r"sightline_api_requests_total({.*} [\d.]+)", text))
    assert counted == {
        '{method="GET",route="/healthz",status="200"} 2.0',
        '{method="GET",route="unmatched",status="404"} 2.0',
        '{method="GET",route="/try/fails",status="500"} 1.0',
        '{method="other",route="/healthz",status="405"} 1.0',
    }
    assert 'sightline_api_request_seconds_count{route="/healthz"} 3.0' in text


async def test_other_sites_are_answered_where_the_settings_name_them() -> None:
    origin = {"Origin": "https://shop.example"}
    assert "access-control-allow-origin" not in (await ask(memory_parts(), "/healthz", origin)).headers
    parts = memory_parts(Settings(api=ApiSettings(cors_origins=("https://shop.example",))))
    answer = await ask(parts, "/healthz", origin)
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-credentials" not in answer.headers
    assert (
        "access-control-allow-origin" not in (await ask(parts, "/healthz", {"Origin": "https://evil.example"})).headers
    )
    preflight = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    assert (await ask(parts, "/v1/score", preflight, "OPTIONS")).status_code == 200


class Body:
    """A body that comes in chunks and counts how often it was asked for; after its end the client stays."""

    def __init__(self, chunks: int, chunk: bytes) -> None:
        self.left = chunks
        self.asked = 0
        self.asked_when_answered = 0
        self._chunk = chunk

    async def receive(self) -> dict[str, Any]:
        if self.left == 0:
            await asyncio.Event().wait()
        self.asked += 1
        self.left -= 1
        return {"type": "http.request", "body": self._chunk, "more_body": self.left > 0}


async def call(
    app: FastAPI, path: str, body: bytes | Body, announced: int | None = None, method: str = "POST"
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    coming = Body(1, body) if isinstance(body, bytes) else body

    async def send(message: Any) -> None:
        if not sent:
            coming.asked_when_answered = coming.asked
        sent.append(message)

    headers = [] if announced is None else [(b"content-length", str(announced).encode())]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *headers],
    }
    await app(scope, coming.receive, send)
    return sent


def refused(sent: list[dict[str, Any]]) -> bool:
    headers = dict(sent[0]["headers"])
    body = orjson.loads(sent[1]["body"])
    return (sent[0]["status"], body["code"], headers[b"connection"]) == (413, "body_too_large", b"close")


@pytest.mark.parametrize("path", ["/v1/score", "/try/body", "/nowhere"])
async def test_200_mb_are_refused_before_a_byte_is_read(path: str) -> None:
    body = Body(200, b"x" * MIB)
    assert refused(await call(application(memory_parts()), path, body, announced=200_000_000))
    assert body.asked_when_answered == 0


@pytest.mark.parametrize(("path", "most_mib"), [("/v1/score", 10), ("/try/body", 1)])
async def test_a_body_in_chunks_is_cut_where_it_passes_the_limit(path: str, most_mib: int) -> None:
    body = Body(200, b"x" * MIB)
    assert refused(await call(application(memory_parts()), path, body))
    assert body.asked_when_answered == most_mib + 1


@pytest.mark.parametrize("path", ["/try/parsed", "/try/stubborn"])
async def test_whoever_reads_the_body_cannot_make_another_answer_of_it(path: str) -> None:
    body = Body(200, b"x" * MIB)
    assert refused(await call(application(memory_parts()), path, body))
    assert body.asked_when_answered == 2


async def test_a_body_that_is_longer_than_announced_is_cut_too() -> None:
    assert refused(await call(application(memory_parts()), "/try/body", Body(200, b"x" * MIB), announced=10))


async def test_the_limit_itself_is_let_through() -> None:
    parts = memory_parts(Settings(api=ApiSettings(max_body_bytes=4096)))
    app = application(parts)
    form = 4096 + 64 * 1024
    for path, most in (("/v1/score", form), ("/try/body", MIB)):
        sent = await call(app, path, b"x" * most, announced=most)
        assert orjson.loads(sent[1]["body"]) == {"bytes": most}
        assert refused(await call(app, path, b"x" * (most + 1), announced=most + 1))
        assert refused(await call(app, path, b"x" * (most + 1)))
