"""The bridge as a process between a real queue and a real broker, killed, frozen out and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiobotocore.session import get_session

from app.domain.events import Created, parse_message
from app.settings import ROOT, KafkaSettings
from app.stack.local import LocalStack
from app.systems.kafka.topic_log import KafkaTopicLog
from app.topics import UPLOADS
from tests.support.eventually import eventually
from tests.support.stack import TestNames

pytestmark = pytest.mark.services


@asynccontextmanager
async def client(stack: LocalStack, service: str) -> AsyncIterator[Any]:
    async with get_session().create_client(
        service,
        endpoint_url=stack.sqs_endpoint,
        region_name=stack.s3.region,
        aws_access_key_id=stack.s3.access_key,
        aws_secret_access_key=stack.s3.secret_key,
    ) as made:
        yield made


def environment(stack: LocalStack, prefix: str, queue_url: str, **more: str) -> dict[str, str]:
    return (
        {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
        | stack.environment
        | {
            "SIGHTLINE_KAFKA_PREFIX": prefix,
            "SIGHTLINE_SQS_QUEUE_URL": queue_url,
            "SIGHTLINE_SQS_WAIT_SECONDS": "1",
            "SIGHTLINE_SQS_VISIBILITY_SECONDS": "6",
        }
        | more
    )


@asynccontextmanager
async def bridge(variables: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "bridge", "sqs", cwd=ROOT, env=dict(variables), stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def keys_bridged(stack: LocalStack, prefix: str) -> list[str]:
    keys = []
    async with aclosing(KafkaTopicLog(KafkaSettings(bootstrap=stack.kafka, prefix=prefix)).scan(UPLOADS)) as records:
        async for record in records:
            keys += [parsed.event.key for parsed in parse_message(record.value) if isinstance(parsed.event, Created)]
    return keys


async def put(stack: LocalStack, bucket: str, keys: list[str]) -> None:
    async with client(stack, "s3") as s3:
        for key in keys:
            await s3.put_object(Bucket=bucket, Key=key, Body=key.encode())


async def queue_is_empty(stack: LocalStack, url: str) -> bool:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    async with client(stack, "sqs") as sqs:
        found = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return all(int(found["Attributes"][name]) == 0 for name in names)


async def test_uploads_reach_kafka_with_their_true_keys_and_leave_the_queue(
    stack: LocalStack, topics: str, names: TestNames
) -> None:
    url = await stack.notify_queue(names.bucket, names.queue)
    keys = [f"in put/päth+plus & 100%/{n} 日本.jpg" for n in range(25)]
    async with bridge(environment(stack, topics, url)) as process:
        await put(stack, names.bucket, keys)
        await eventually(lambda: queue_is_empty(stack, url), 30, every_seconds=0.3)
        assert sorted(await keys_bridged(stack, topics)) == sorted(keys)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            _, log = await process.communicate()
        assert process.returncode == 0
        # One more than the uploads: the store greets every new notification with a test event.
        assert b"26 messages bridged, 26 deleted" in log


async def test_killed_at_any_moment_it_loses_nothing(stack: LocalStack, topics: str, names: TestNames) -> None:
    url = await stack.notify_queue(names.bucket, names.queue)
    variables = environment(stack, topics, url)
    keys = [f"{n}.jpg" for n in range(300)]
    uploading = asyncio.create_task(put(stack, names.bucket, keys))
    for expected in (1, 60, 150):
        async with bridge(variables) as process:

            async def enough(expected: int = expected) -> bool:
                return len(set(await keys_bridged(stack, topics))) >= expected

            await eventually(enough, 60, every_seconds=0.1)
            process.kill()
    await uploading
    async with bridge(variables):
        await eventually(lambda: queue_is_empty(stack, url), 60, every_seconds=0.3)
    assert set(await keys_bridged(stack, topics)) == set(keys)


async def test_metrics_tell_what_was_bridged(stack: LocalStack, topics: str, names: TestNames) -> None:
    url = await stack.notify_queue(names.bucket, names.queue)
    async with bridge(environment(stack, topics, url)) as process:
        await put(stack, names.bucket, ["a.jpg"])
        await eventually(lambda: queue_is_empty(stack, url), 30, every_seconds=0.3)
        assert process.stderr is not None
        async with asyncio.timeout(10):
            line = (await process.stderr.readline()).decode()
        address = line.strip().rsplit(" ", 1)[1]
        host, port = address.removeprefix("http://").removesuffix("/metrics").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        body = (await reader.read()).split(b"\r\n\r\n", 1)[1]
        writer.close()
        health = json.loads(body)
        assert health["healthy"] is True
        assert health["bridged"] >= 1


async def test_without_a_queue_it_refuses_in_one_sentence(stack: LocalStack, topics: str) -> None:
    async with bridge(environment(stack, topics, "")) as process:
        async with asyncio.timeout(20):
            _, log = await process.communicate()
        assert process.returncode == 2
        assert log.decode().startswith("sightline: no queue: set SIGHTLINE_SQS_QUEUE_URL")
