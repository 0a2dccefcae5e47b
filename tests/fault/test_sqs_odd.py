"""A queue that answers oddly is unavailable or empty; the bridge goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.bridge.ports import QueueMessage
from app.bridge.sqs import SqsQueue
from app.errors import QueueUnavailable
from app.settings import S3Settings, Secret, SqsSettings
from tests.support.stores.loopback_server import LoopbackServer

GOOD = {"MessageId": "m1", "ReceiptHandle": "r1", "Body": "{}"}


def ok(body: bytes, headers: bytes = b"content-type: application/x-amz-json-1.0\r\n") -> bytes:
    return b"HTTP/1.1 200 OK\r\nconnection: close\r\n%scontent-length: %d\r\n\r\n%s" % (headers, len(body), body)


def told(*messages: Any) -> bytes:
    return ok(json.dumps({"Messages": list(messages)}).encode())


@asynccontextmanager
async def queue_that_answers(answer: bytes) -> AsyncIterator[SqsQueue]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    server = LoopbackServer(talk)
    url = await server.start()
    settings = SqsSettings(queue_url=f"{url}/queue", endpoint=url, wait_seconds=0)
    queue = SqsQueue(settings, S3Settings(access_key="demo", secret_key=Secret("demo-secret")))
    try:
        yield queue
    finally:
        await queue.close()
        await server.stop()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff\xfe",
        ok(b"no json"),
        ok(b"[1]"),
        ok(b'{"Messages": 7}'),
        ok(b'{"Messages": [7]}'),
        ok(b'{"Messages": {"a": 1}}'),
        ok(b"\xff", b"x-amzn-query-error: \xff\r\n"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 500 X\r\ncontent-length: 1\r\n\r\n<",
        b"HTTP/1.1 301 X\r\nlocation: http://[\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 9_000 + b"\r\n\r\n",
    ],
)
async def test_an_answer_that_cannot_be_read_makes_the_queue_unavailable(answer: bytes) -> None:
    async with queue_that_answers(answer) as queue:
        try:
            assert await queue.receive() == []
        except QueueUnavailable as error:
            assert str(error)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (GOOD, QueueMessage("m1", "r1", "{}")),
        ({"ReceiptHandle": "r1"}, QueueMessage("", "r1", "")),
        ({"MessageId": "m1", "Body": "{}"}, None),
        ({**GOOD, "MessageId": "\ud800", "Body": "\ud800"}, QueueMessage("\ud800", "r1", "\ud800")),
    ],
)
async def test_a_message_that_lacks_something_is_taken_as_far_as_it_can_be_deleted(
    message: dict[str, Any], expected: QueueMessage | None
) -> None:
    async with queue_that_answers(told(message)) as queue:
        assert await queue.receive() == ([] if expected is None else [expected])
