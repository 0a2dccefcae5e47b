"""What the query service stands on goes away under it, and comes back; and it is told to end."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api.application import openapi_page
from app.domain.api_keys import SCOPES
from app.pipeline.index import ImageFacts
from app.ports.index import IndexEntry
from app.ports.topics import AtOffsets, AtTime
from app.settings import Settings, load_settings
from app.stack.local import KAFKA, LocalStack
from app.stack.ports import lease_port
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.registry.avro import Codec
from app.topics import DECISIONS
from schemas.records import ModerationDecision
from tests.support.api.on_real_servers import RealApi, make_key, real_api
from tests.support.eventually import eventually
from tests.support.outcomes import flag_of, prediction
from tests.support.redis_process import RedisProcess
from tests.support.whole_pipeline import VerbProcess

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]
CODEC = Codec()
DOCUMENT: dict[str, Any] = json.loads(openapi_page())
DECISION = {"decision_id": "one", "bucket": "images", "key": "a.jpg", "decision": "reject"}
BODIES: dict[str, Any] = {
    "batch_get_images": {"images": [{"bucket": "images", "key": "a.jpg"}]},
    "make_decision": DECISION,
    "renew_leases": {"lease_ids": ["x"]},
    "release_leases": {"lease_ids": ["x"]},
}
# These go on without Redis: what they tell lies on Kafka or in files.
WITHOUT_REDIS = {"list_models", "list_policies", "get_operations", "follow_flagged", "score_picture"}


def environment(stack: LocalStack, prefix: str, **more: str) -> dict[str, str]:
    return {
        **stack.environment,
        "SIGHTLINE_KAFKA_PREFIX": prefix,
        "SIGHTLINE_REDIS_PREFIX": prefix,
        "SIGHTLINE_API_SCORE": "false",
        "SIGHTLINE_API_EXPLAIN_SECONDS": "2",
        **more,
    }


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[RealApi, httpx.AsyncClient]]:
    async with AsyncExitStack() as held:
        api = await held.enter_async_context(real_api(settings))
        client = httpx.AsyncClient(base_url=api.url, headers=api.headers, timeout=90)
        yield api, await held.enter_async_context(client)


async def know(api: RealApi, key: str) -> None:
    """Let the index know a flagged image."""
    facts = ImageFacts(api.parts.index, api.parts.queue, api.parts.settings.moderation.actions)
    outcome = prediction(key=key)
    records = (outcome, flag_of(outcome))
    await facts.store([IndexEntry(one, CODEC.encode(one)) for one in records])


async def answers(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
    """Ask every operation below /v1 once, by its name."""
    found = {}
    for path, told in DOCUMENT["paths"].items():
        for method, operation in told.items():
            name = operation["operationId"]
            if not path.startswith("/v1/"):
                continue
            example = path.format(bucket="images", key="a.jpg", sha256=prediction().sha256)
            body: Any = {"json": BODIES.get(name, {})} if method == "post" else {}
            async with client.stream(method.upper(), example, **body) as answer:
                if name != "follow_flagged":
                    await answer.aread()
            found[name] = answer
    return found


async def test_redis_killed_under_the_query_service_is_said_and_its_return_is_noticed(
    stack: LocalStack, topics: str, tmp_path: Path
) -> None:
    """Guarantee: what needs Redis says 503 with Retry-After at once, the rest goes on; nothing needs a restart."""
    redis = RedisProcess(tmp_path)
    await redis.start()
    settings = load_settings(environment(stack, topics, SIGHTLINE_REDIS_URL=redis.settings().url.reveal()))
    async with serving(settings) as (api, client):
        await know(api, "a.jpg")
        before = await answers(client)
        assert {name for name, answer in before.items() if answer.status_code >= 500} == {"score_picture"}
        await redis.kill()
        try:
            began = time.monotonic()
            without = await answers(client)
            assert time.monotonic() - began < 30
            for name, answer in without.items():
                if name in WITHOUT_REDIS:
                    assert answer.status_code == before[name].status_code, name
                else:
                    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), name
                    assert int(answer.headers["retry-after"]) > 0
            assert (await client.get("/healthz")).status_code == 200
            began = time.monotonic()
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
            assert [one["name"] for one in ready.json()["checks"] if not one["ok"]] == ["index"]
            assert time.monotonic() - began < 4
        finally:
            await redis.start()
        await eventually(lambda: _is(client, "/readyz", 200), 10)
        # It came back empty.
        await eventually(lambda: _is(client, "/v1/images/images/a.jpg", 404), 10)
        await know(api, "a.jpg")
        after = await answers(client)
        assert {name: one.status_code for name, one in after.items()} == {
            name: one.status_code for name, one in before.items()
        }
    await redis.close()


async def _is(client: httpx.AsyncClient, path: str, status: int) -> bool:
    return (await client.get(path)).status_code == status


async def test_broker_killed_under_a_decision_leaves_it_once_on_its_topic(stack: LocalStack, topics: str) -> None:
    """Guarantee: without the broker look-ups go on; a decision is refused, and asked for again it is made once."""
    settings = load_settings(environment(stack, topics))
    async with serving(settings) as (api, client):
        await know(api, "a.jpg")
        await know(api, "b.jpg")
        # The producer knows its broker, and loses it.
        assert (await client.post("/v1/decisions", json={**DECISION, "decision_id": "zero", "key": "b.jpg"})).is_success
        await stack.kill(KAFKA)
        try:
            deciding = asyncio.create_task(client.post("/v1/decisions", json=DECISION))
            while not deciding.done():
                answer = await client.get("/v1/images/images/a.jpg")
                assert (answer.status_code, answer.json()["decision"]) == (200, None)
                await asyncio.wait([deciding], timeout=1)
            refused = await deciding
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert int(refused.headers["retry-after"]) > 0
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/readyz")).json()["code"] == "not_ready"
        finally:
            await stack.restart(KAFKA)

        async def made() -> dict[str, Any] | None:
            answer = await client.post("/v1/decisions", json=DECISION)
            assert answer.status_code in (200, 201, 503), answer.text
            return dict(answer.json()) if answer.is_success else None

        told = await eventually(made, 120, every_seconds=1)
        again = await client.post("/v1/decisions", json=DECISION)
        assert (again.status_code, again.json()) == (200, told)
        assert (await client.get("/v1/images/images/a.jpg")).json()["decision"]["decision_id"] == told["decision_id"]
        await eventually(lambda: _is(client, "/readyz", 200), 30)
    assert sorted(await published(settings)) == sorted(["a.jpg", "b.jpg"])


async def published(settings: Settings) -> list[str]:
    """Return the key of every decision on the topic."""
    async with KafkaTopicLog(settings.kafka) as scanner:
        ends = AtOffsets(dict(await scanner.ends(DECISIONS)))
        async with aclosing(scanner.scan(DECISIONS, AtTime(0), ends)) as records:
            return [CODEC.decode_as(record.value, ModerationDecision).key async for record in records]


async def test_told_to_end_it_answers_those_that_wait_and_exits(stack: LocalStack, topics: str, tmp_path: Path) -> None:
    """Guarantee: SIGTERM ends streams and long polls decently, and the process within ten seconds."""
    lease = lease_port(purpose="api")
    variables = environment(stack, topics, SIGHTLINE_API_PORT=str(lease.port), SIGHTLINE_STACK_VAR_DIR=str(tmp_path))
    key = await make_key(load_settings(variables), SCOPES)
    process = VerbProcess("api", variables, tmp_path / "api.log", ("--no-score",))
    process.start()
    try:
        headers = {"Authorization": f"Bearer {key}"}
        url = f"http://127.0.0.1:{lease.port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            await eventually(lambda: _answers(client), 60, message=process.log())
            polling = asyncio.create_task(client.get("/v1/images/images/a.jpg?wait=30s"))
            async with client.stream("GET", "/v1/stream/flagged") as stream:
                assert stream.status_code == 200
                lines = stream.aiter_lines()
                assert await anext(lines)
                began = time.monotonic()
                ended = asyncio.create_task(process.end(signal.SIGTERM))
                # To its end.
                async for _ in lines:
                    pass
            assert (await polling).json()["code"] == "unknown_image"
            assert await ended == 0, process.log()
            assert time.monotonic() - began < 10
    finally:
        await process.end(signal.SIGKILL)
        lease.release()


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/v1/queue")).status_code == 200
    except httpx.TransportError:
        return False
