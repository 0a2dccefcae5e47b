"""API keys on a real broker: made and revoked on the command line, known to a running service, through outages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.responses import Response

from app.api.answers import json_answer
from app.api.application import build_application
from app.api.guards.auth import Caller, allow
from app.api.serve import api_parts
from app.domain.api_keys import API_KEY_KIND
from app.pipeline.control_topic import control_key
from app.settings import KafkaSettings, RedisSettings, Secret, Settings
from app.stack.local import LocalStack
from app.systems.kafka.producer import KafkaProducer
from app.topics import CONTROL
from tests.support.eventually import eventually
from tests.support.verbs import run_verb

READ = Depends(allow("read"))


def settings_of(stack: LocalStack, prefix: str) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap=stack.kafka, prefix=prefix, partitions=stack.options.partitions),
        redis=RedisSettings(url=Secret(stack.redis_url), prefix=prefix),
    )


def environment(stack: LocalStack, prefix: str) -> dict[str, str]:
    return {"SIGHTLINE_KAFKA_BOOTSTRAP": stack.kafka, "SIGHTLINE_KAFKA_PREFIX": prefix}


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    async with api_parts(settings) as parts:
        app = build_application(parts)

        async def who(caller: Caller = READ) -> Response:
            return json_answer({"name": caller.name})

        app.add_api_route("/try", who)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sightline.test") as client:
            yield client, app


async def create(variables: dict[str, str], *arguments: str) -> dict[str, object]:
    code, out, err = await run_verb(variables, "api", "keys", "create", "--json", *arguments)
    assert code == 0, err
    made: dict[str, object] = json.loads(out)
    return made


async def answers(client: httpx.AsyncClient, key: object, status: int) -> bool:
    return (await client.get("/try", headers={"X-Api-Key": str(key)})).status_code == status


async def test_a_key_works_within_two_seconds_of_its_making_and_ends_within_two_of_its_revocation(
    stack: LocalStack, topics: str
) -> None:
    variables = environment(stack, topics)
    early = await create(variables, "--name", "early", "--scope", "read")
    async with serving(settings_of(stack, topics)) as (client, _):
        assert await answers(client, early["key"], 200), "known from the start"
        made = await create(variables, "--name", "shop", "--scope", "read", "--scope", "score", "--days", "30")
        await eventually(lambda: answers(client, made["key"], 200), 2)
        signed = await client.post("/console/session", json={"key": made["key"]})
        assert signed.json() == {"name": "shop", "scopes": ["read", "score"]}
        assert (await client.get("/try")).json() == {"name": "shop"}
        code, _, err = await run_verb(variables, "api", "keys", "revoke", str(made["id"]))
        assert code == 0, err
        await eventually(lambda: answers(client, made["key"], 401), 2)
        assert (await client.get("/console/session")).status_code == 401, "the session ended with its key"
        assert await answers(client, early["key"], 200)


async def test_a_record_that_cannot_be_read_changes_nothing(stack: LocalStack, topics: str) -> None:
    settings = settings_of(stack, topics)
    made = await create(environment(stack, topics), "--name", "shop", "--scope", "read")
    producer = KafkaProducer(settings.kafka)
    try:
        async with serving(settings) as (client, _):
            await producer.send_and_wait(CONTROL, control_key(API_KEY_KIND, str(made["id"])), b"not Avro")
            later = await create(environment(stack, topics), "--name", "later", "--scope", "read")
            await eventually(lambda: answers(client, later["key"], 200), 2)
            assert await answers(client, made["key"], 200)
        async with serving(settings) as (client, _):
            assert await answers(client, made["key"], 200)
    finally:
        await producer.close()


async def test_keys_are_kept_while_the_broker_is_away_and_followed_when_it_is_back(
    stack: LocalStack, topics: str
) -> None:
    variables = environment(stack, topics)
    made = await create(variables, "--name", "shop", "--scope", "read")
    async with serving(settings_of(stack, topics)) as (client, app):
        ring = app.state.parts.keys
        assert ring.healthy
        await stack.kill("kafka")
        try:
            await eventually(lambda: not ring.healthy, 40, message="nobody noticed that the broker is away")
            assert await answers(client, made["key"], 200)
        finally:
            await stack.revive()
        await eventually(lambda: ring.healthy, 60)
        later = await create(variables, "--name", "later", "--scope", "read")
        await eventually(lambda: answers(client, later["key"], 200), 2)


async def test_without_a_broker_the_service_starts_and_says_later(stack: LocalStack, topics: str) -> None:
    settings = settings_of(stack, topics)
    nowhere = replace(settings, kafka=replace(settings.kafka, bootstrap="127.0.0.1:1"))
    async with serving(nowhere) as (client, _):
        answer = await client.get("/try", headers={"X-Api-Key": "slk_abc"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert (await client.get("/healthz")).status_code == 200


async def test_the_verbs_show_a_key_once_and_its_secret_never_again(stack: LocalStack, topics: str) -> None:
    variables = environment(stack, topics)
    code, out, err = await run_verb(variables, "api", "keys", "ls")
    assert (code, out) == (0, "")
    assert "api keys create" in err
    code, out, err = await run_verb(
        variables, "api", "keys", "create", "--name", "Ada L.", "--scope", "moderate", "--rate", "5"
    )
    token = out.strip()
    assert code == 0
    assert token.startswith("slk_")
    assert "cannot be shown again" in err
    _, key_id, secret = token.split("_", 2)
    assert secret not in err
    code, out, _ = await run_verb(variables, "api", "keys", "ls")
    assert code == 0
    assert f"{key_id}  valid   Ada L.: moderate; made " in out
    assert "never expires, 5/s" in out
    code, listed, _ = await run_verb(variables, "api", "keys", "ls", "--json")
    assert json.loads(listed).keys() == {
        *("id", "name", "scopes", "state", "created_ms", "expires_ms", "rate_per_second")
    }
    assert secret not in out + listed
    for _ in range(2):
        code, out, _ = await run_verb(variables, "api", "keys", "revoke", key_id, "--json")
        assert (code, json.loads(out)["state"]) == (0, "revoked")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("create", "--name", "x", "--scope", "paint"), "paint is no scope"),
        (("create", "--name", " ", "--scope", "read"), "--name must be"),
        (("create", "--name", "x", "--scope", "read", "--rate", "nan"), "--rate"),
        (("create", "--name", "x", "--scope", "read", "--days", "0"), "--days"),
        (("revoke", "nobody"), "no API key has the id nobody; `./sightline api keys ls` lists them"),
    ],
)
async def test_what_cannot_be_is_one_sentence(
    stack: LocalStack, topics: str, arguments: tuple[str, ...], told: str
) -> None:
    code, _, err = await run_verb(environment(stack, topics), "api", "keys", *arguments)
    assert code == 2
    assert told in err
    assert "Traceback" not in err
