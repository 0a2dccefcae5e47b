"""Who may do what, asked of the document itself: an operation that is added cannot be forgotten here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.api.application import openapi_page
from app.domain.api_keys import Scope, scopes_of
from app.settings import load_settings
from app.stack.local import LocalStack
from tests.support.api.on_real_servers import RealApi, real_api

pytestmark = pytest.mark.services
DOCUMENT: dict[str, Any] = json.loads(openapi_page())
JSON = {"Content-Type": "application/json"}
NO_SUCH_KEY = "slk_aaaaaaaaaaaa_" + "A" * 43


@pytest_asyncio.fixture
async def api(stack: LocalStack, topics: str) -> AsyncIterator[RealApi]:
    environment = {
        **stack.environment,
        "SIGHTLINE_KAFKA_PREFIX": topics,
        "SIGHTLINE_REDIS_PREFIX": topics,
        "SIGHTLINE_API_SCORE": "false",
    }
    async with real_api(load_settings(environment)) as running:
        yield running


def operations() -> list[tuple[str, str, Scope]]:
    """Method, path of an example and scope of every operation below /v1."""
    found = []
    for path, told in DOCUMENT["paths"].items():
        for method, operation in told.items():
            if path.startswith("/v1/"):
                example = path.format(bucket="images", key="a%2Fb.jpg", sha256="0" * 64)
                (scope,) = scopes_of(operation["security"][0]["api_key"])
                found.append((method.upper(), example, scope))
    return found


async def ask(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], body: bytes = b"{}"
) -> tuple[int, Any]:
    """Return status and problem; a stream that began is left at once."""
    sent: Any = {"content": body, "headers": JSON | headers} if method == "POST" else {"headers": headers}
    async with client.stream(method, path, **sent) as answer:
        if answer.status_code < 400:
            return answer.status_code, None
        await answer.aread()
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        return answer.status_code, answer.json()


@pytest.mark.parametrize("body", [b"{}", b"{no"], ids=["json", "no-json"])
async def test_every_operation_wants_a_key_that_is_known(api: RealApi, body: bytes) -> None:
    """And asks for it before it reads what came: routes with a body of FastAPI's need `KeyFirst` for that."""
    strange: list[dict[str, str]] = [
        {},
        {"Authorization": f"Bearer {NO_SUCH_KEY}"},
        {"Authorization": api.key},
        {"Authorization": f"Basic {api.key}"},
        {"X-Api-Key": NO_SUCH_KEY},
        {"X-Api-Key": ""},
        {"Cookie": "sightline_session=none"},
        # Of two the first is asked, whatever the second one opens.
        {"Authorization": "Bearer x", "X-Api-Key": api.key},
    ]
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
        for method, path, _ in operations():
            for headers in strange:
                status, told = await ask(client, method, path, headers, body)
                by_cookie = "Cookie" in headers and method != "GET"
                wanted = (403, "forbidden") if by_cookie else (401, "unauthorized")
                assert (status, told["code"]) == wanted, (method, path, headers)


async def test_no_scope_stands_for_another_one(api: RealApi) -> None:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
        for method, path, scope in operations():
            for key in api.keys_but(scope):
                status, told = await ask(client, method, path, {"X-Api-Key": key})
                assert (status, told["code"], told["needed_scope"]) == (403, "forbidden", scope), (method, path)
            status, told = await ask(client, method, path, {"X-Api-Key": api.keys[scope]})
            assert status not in (401, 403), (method, path, told)


async def test_what_is_no_operation_is_a_problem(api: RealApi) -> None:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
        for path, told in DOCUMENT["paths"].items():
            example = path.format(bucket="images", key="a", sha256="0" * 64)
            for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - {one.upper() for one in told}:
                answer = await client.request(method, example, headers=api.headers)
                assert answer.status_code == 405, (method, path)
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["allow"] == ", ".join(sorted(one.upper() for one in told))
                assert method == "HEAD" or answer.json()["code"] == "method_not_allowed"
        for path in ("/v1", "/v1/", "/v1/images", "/v1/images/b", "/v2/images/b/k", "/healthz/", "/%00", "/v1/%2e%2e"):
            answer = await client.get(path, headers={**api.headers, "Host": "elsewhere.example:99"})
            assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route"), path
