"""What the bridge relies on in a queue, on the memory twin and on a real SQS endpoint."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio

from app.bridge.ports import NotificationQueue, QueueMessage
from app.bridge.sqs import SqsQueue
from app.errors import QueueUnavailable
from app.settings import S3Settings, Secret, SqsSettings
from app.stack.local import LocalStack
from app.systems.clock import SystemClock
from tests.integration.bridge.test_bridge import client
from tests.support.eventually import eventually
from tests.support.memory.queue import MemoryNotificationQueue
from tests.support.stack import TestNames

VISIBILITY_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Bench:
    """A queue and a way to put messages into it."""

    queue: NotificationQueue
    put: Callable[[Sequence[str]], Awaitable[None]]


@pytest.fixture(params=["memory", pytest.param("sqs", marks=pytest.mark.services)])
def queue_stack(request: pytest.FixtureRequest) -> LocalStack | None:
    """The stack whose SQS is meant, or None for the memory twin."""
    if request.param == "memory":
        return None
    found: LocalStack = request.getfixturevalue("stack")
    return found


@pytest_asyncio.fixture
async def bench(queue_stack: LocalStack | None, names: TestNames) -> AsyncIterator[Bench]:
    if queue_stack is None:
        memory = MemoryNotificationQueue(SystemClock(), visibility_seconds=VISIBILITY_SECONDS, wait_seconds=1)

        async def put_memory(bodies: Sequence[str]) -> None:
            memory.put(bodies)

        yield Bench(memory, put_memory)
        return
    stack = queue_stack
    async with client(stack, "sqs") as sqs:
        url = (await sqs.create_queue(QueueName=names.queue))["QueueUrl"]

        async def put_sqs(bodies: Sequence[str]) -> None:
            for body in bodies:
                await sqs.send_message(QueueUrl=url, MessageBody=body)

        access = stack.s3
        queue = SqsQueue(
            SqsSettings(
                queue_url=url, endpoint=stack.sqs_endpoint, wait_seconds=1, visibility_seconds=VISIBILITY_SECONDS
            ),
            S3Settings(region=access.region, access_key=access.access_key, secret_key=Secret(access.secret_key)),
        )
        yield Bench(queue, put_sqs)
        await queue.close()


async def drain(queue: NotificationQueue) -> list[QueueMessage]:
    found: list[QueueMessage] = []
    while messages := await queue.receive():
        assert len(messages) <= 10
        assert await queue.delete(messages) == len(messages)
        found += messages
    return found


async def test_an_empty_queue_gives_nothing_within_its_poll(bench: Bench) -> None:
    assert list(await bench.queue.receive()) == []


async def test_every_message_is_handed_out_with_its_body_and_gone_when_deleted(bench: Bench) -> None:
    bodies = [json.dumps({"key": f"in put/päth+{n}.jpg"}) for n in range(23)]
    await bench.put(bodies)
    assert sorted(message.body for message in await drain(bench.queue)) == sorted(bodies)
    assert list(await bench.queue.receive()) == []


async def test_what_is_not_deleted_is_hidden_and_comes_again_with_the_same_id(bench: Bench) -> None:
    await bench.put(["one"])
    (first,) = await bench.queue.receive()

    async def again() -> Sequence[QueueMessage]:
        return await bench.queue.receive()

    (second,) = await eventually(again, 15)
    assert (second.message_id, second.body) == (first.message_id, "one")
    assert await bench.queue.delete([second]) == 1
    assert list(await bench.queue.receive()) == []


async def test_a_queue_that_is_not_there_is_unavailable() -> None:
    settings = SqsSettings(queue_url="http://127.0.0.1:1/000000000000/none", endpoint="http://127.0.0.1:1")
    queue = SqsQueue(settings, S3Settings(access_key="x", secret_key=Secret("y")))
    with pytest.raises(QueueUnavailable, match="does not answer"):
        await queue.receive()
    await queue.close()
