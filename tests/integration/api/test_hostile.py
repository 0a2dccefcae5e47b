"""Hostile and broken clients at a real socket: the server that production runs, on memory twins."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import psutil
import pytest
import uvicorn

from app.api.bodies import PLAIN_SECONDS
from app.api.bounded_http import MAX_HEAD_BYTES, BoundedHttp
from app.api.dependencies import ApiParts
from app.api.serve import api_server
from app.ports.index import IndexEntry
from app.systems.clock import SystemClock
from tests.support.api.in_process import give_key, memory_parts
from tests.support.api.raw_http import RawAnswer, RawClient, raw_client
from tests.support.api.serving import serving
from tests.support.outcomes import prediction

MIB: Final = 1024 * 1024
HOST: Final = b"Host: elsewhere.example\r\n"


class Hasty(BoundedHttp):
    """With the bounds of production, only sooner."""

    head_seconds = 1.0
    body_seconds = 2.0


@dataclass(frozen=True, slots=True)
class Served:
    host: str
    port: int
    parts: ApiParts
    key: bytes
    """The header that opens everything."""

    async def one(self, *pieces: bytes) -> RawAnswer:
        """Send `pieces` on a connection of their own and return the answer."""
        async with raw_client(self.host, self.port) as client:
            client.send(*pieces)
            return await client.answer()

    def connect(self) -> AbstractAsyncContextManager[RawClient]:
        return raw_client(self.host, self.port)


@asynccontextmanager
async def served(http: type[BoundedHttp] = BoundedHttp) -> AsyncIterator[Served]:
    parts = memory_parts(clock=SystemClock())
    token, _ = give_key(parts, ["read", "score", "moderate"], rate_per_second=1_000_000)
    config = api_server(parts).config
    config.http = http
    server = uvicorn.Server(config)
    async with serving(server) as (host, port):
        yield Served(host, port, parts, HOST + f"X-Api-Key: {token.text()}\r\n".encode())


async def test_a_body_of_200_mb_is_refused_before_its_first_byte_and_costs_no_memory() -> None:
    head = b"POST /v1/score HTTP/1.1\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n" % (200 * MIB)
    async with served() as api:
        answer = await api.one(head, api.key, b"Expect: 100-continue\r\n\r\n")
        assert (answer.status, answer.code, answer.headers["connection"]) == (413, "body_too_large", "close")
        me = psutil.Process()
        before = most = me.memory_info().rss
        async with api.connect() as client:
            client.send(head, api.key, b"\r\n")
            assert (await client.answer()).code == "body_too_large"
            piece, sent, began = bytes(MIB), 0, time.monotonic()
            with pytest.raises(ConnectionError):
                while sent < 2_000 * MIB:
                    client.send(piece)
                    await client.drain()
                    sent += len(piece)
                    most = max(most, me.memory_info().rss)
            assert time.monotonic() - began < 10
        assert most - before < 64 * MIB


async def test_a_body_without_an_end_is_cut_at_the_limit() -> None:
    head = b"POST /v1/decisions HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    async with served() as api, api.connect() as client:
        client.send(head, api.key, b"\r\n", *(b"10000\r\n" + bytes(65536) + b"\r\n" for _ in range(17)))
        answer = await client.answer()
        assert (answer.status, answer.code, answer.problem["most_bytes"]) == (413, "body_too_large", MIB)
        assert await client.ended() == b""


async def test_slow_bodies_hold_nobody_up_and_are_ended() -> None:
    head = b"Content-Type: application/json\r\nContent-Length: 1000\r\n"
    async with served() as api, AsyncExitStack() as held:
        slow = [await held.enter_async_context(api.connect()) for _ in range(50)]
        for number, client in enumerate(slow):
            path = (b"/v1/decisions", b"/v1/queue/lease", b"/v1/images:batchGet", b"/console/session")[number % 4]
            client.send(b"POST ", path, b" HTTP/1.1\r\n", head, api.key, b"\r\n")
        began = time.monotonic()
        dripping = [asyncio.create_task(drip(client)) for client in slow]
        worst = 0.0
        while time.monotonic() - began < PLAIN_SECONDS / 2:
            asked = time.monotonic()
            assert (await api.one(b"GET /healthz HTTP/1.1\r\n", HOST, b"\r\n")).status == 200
            worst = max(worst, time.monotonic() - asked)
        assert worst < 1
        for answer in await asyncio.gather(*(client.answer(PLAIN_SECONDS + 10) for client in slow)):
            assert (answer.status, answer.code) == (408, "body_too_slow")
        assert await asyncio.gather(*(client.ended() for client in slow)) == [b""] * len(slow)
        assert PLAIN_SECONDS / 2 < time.monotonic() - began < PLAIN_SECONDS * 2
        for task in dripping:
            task.cancel()


async def test_a_request_that_never_ends_loses_its_connection() -> None:
    endless = b"POST /v1/score HTTP/1.1\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n"
    async with served(Hasty) as api, api.connect() as silent, api.connect() as head, api.connect() as body:
        head.send(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        body.send(endless, HOST, b"\r\n")
        dripping = [asyncio.create_task(drip(client, piece)) for client, piece in ((head, b"x"), (body, b"1\r\nx\r\n"))]
        # No key: answered at once, while the body goes on.
        assert (await body.answer()).status == 401
        for client in (silent, head, body):
            assert await client.ended() == b""
        for task in dripping:
            task.cancel()
        assert (await api.one(b"GET /healthz HTTP/1.1\r\n", HOST, b"\r\n")).status == 200


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with served() as api, api.connect() as client:
        await know(api, "a/b")
        paths = [(b"/healthz", 200), (b"/v1/images/images/a/b", 200), (b"/v1/images/images/c", 404), (b"/no", 404)] * 25
        for number, (path, _) in enumerate(paths):
            client.send(b"GET ", path, b" HTTP/1.1\r\nX-Request-Id: n%d\r\n" % number, api.key, b"\r\n")
        for number, (_, status) in enumerate(paths):
            answer = await client.answer()
            assert (answer.status, answer.headers["x-request-id"]) == (status, f"n{number}")


@pytest.mark.parametrize("where", ["header", "headers", "path", "query"])
async def test_a_head_that_is_too_large_is_told_so(where: str) -> None:
    long = b"x" * 65536
    heads = {
        "header": b"GET /healthz HTTP/1.1\r\nX-Long: " + long + b"\r\n",
        "headers": b"GET /healthz HTTP/1.1\r\n" + b"X-Short: y\r\n" * 5000,
        "path": b"GET /" + long + b" HTTP/1.1\r\n",
        "query": b"GET /healthz?" + long + b" HTTP/1.1\r\n",
    }
    async with served() as api:
        for pieces in ((heads[where], HOST, b"\r\n"), (heads[where],)):
            async with api.connect() as client:
                client.send(*pieces)
                answer = await client.answer()
                assert (answer.status, answer.code) == (431, "head_too_large")
                assert await client.ended() == b""
        fits = b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * (MAX_HEAD_BYTES - 200) + b"\r\n"
        assert (await api.one(fits, HOST, b"\r\n")).status == 200


NO_HTTP: Final = {
    "nothing like it": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "another version": b"GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n",
    "an unknown method": b"GRAB /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "a NUL in a header": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "a line feed alone": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n",
    "a name with a space": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX Y: a\r\n\r\n",
    "two lengths": b"POST /v1/decisions HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": (
        b"POST /v1/decisions HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "no length at all": b"POST /v1/decisions HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
    "a length below nothing": b"POST /v1/decisions HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "no chunks": b"POST /v1/decisions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bytes in a path": b"GET /v1/images/b/\xe6\x97\xa5 HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("what", NO_HTTP)
async def test_what_is_no_http_is_refused_and_ends_the_connection(what: str) -> None:
    async with served() as api, api.connect() as client:
        client.send(NO_HTTP[what])
        answer = await client.answer()
        assert (answer.status, answer.code) == (400, "bad_http")
        assert await client.ended() == b""


async def test_what_is_strange_and_allowed_is_answered() -> None:
    async with served() as api:
        assert (await api.one(b"GET http://elsewhere.example/healthz HTTP/1.1\r\n", HOST, b"\r\n")).status == 200
        assert (await api.one(b"GET /healthz HTTP/1.0\r\n\r\n")).status == 200
        upgrade = (
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n"
        )
        assert (await api.one(b"GET /healthz HTTP/1.1\r\n", HOST, upgrade, b"\r\n")).status == 200
        twice = b"GET /v1/images/b/k?wait=0&wait=0&etag=%ff%00&etag=b&%80=%81 HTTP/1.1\r\n"
        assert (await api.one(twice, api.key, b"\r\n")).code == "unknown_image"
        with_body = b"GET /v1/images/b/k HTTP/1.1\r\nContent-Length: 5\r\n"
        assert (await api.one(with_body, api.key, b"\r\nhello")).code == "unknown_image"


BROKEN_JSON: Final = {
    "syntax": b'{"images":',
    "no UTF-8": b'{"images":[{"bucket":"\xff\xfe","key":"k"}]}',
    "half a pair": b'{"images":[{"bucket":"b","key":"\\ud83d"}]}',
    "a NUL": b'{"images":[{"bucket":"b","key":"a\\u0000b"}]}',
    "digits": b'{"images":' + b"9" * 20_000 + b"}",
    "depth": b'{"images":' + b"[" * 100_000,
    "no number": b'{"images":NaN}',
    "a list": b"[]",
    "more than it": b'{"images":[],"more":1}',
    "501 images": b'{"images":[' + b",".join([b'{"bucket":"b","key":"k"}'] * 501) + b"]}",
    "nothing": b"",
}


@pytest.mark.parametrize("what", BROKEN_JSON)
async def test_json_that_cannot_be_read_is_said_to_be_so(what: str) -> None:
    body = BROKEN_JSON[what]
    head = b"POST /v1/images:batchGet HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    async with served() as api:
        answer = await api.one(head, api.key, b"\r\n", body)
        assert (answer.status, answer.code) == (422, "invalid_request"), answer.body


async def test_every_byte_that_a_key_can_hold_is_found_by_its_path() -> None:
    keys = ["a" + chr(number) + "b" for number in range(1, 128)]
    keys += ["日本", "\u0301e", "\U0001f600", "a//b", "a/../b", "./a", "a/", "/a", "a%2Fb", "a%b", "?", "a#b", "a+b c"]
    keys += ["explain", "a/explain", "a%2fexplain", "k" * 1024, "日" * 341, "\u2028\u202e", "\ufeffa"]
    async with served() as api, api.connect() as client:
        for key in keys:
            await know(api, key)
        for key in keys:
            # As one segment; and with all that is allowed in a path left as it is.
            ways = [quote(key, safe="")] + ([quote(key, safe="/!$&'()*+,;=:@~")] if key != "a/explain" else [])
            for path in ways:
                client.send(b"GET /v1/images/images/", path.encode(), b" HTTP/1.1\r\n", api.key, b"\r\n")
                answer = await client.answer()
                assert answer.status == 200, (key, path, answer.body)
                assert answer.body.count(b'"key":') == 1
                assert answer_key(answer) == key


@pytest.mark.parametrize(
    "path", [b"%00", b"a%00", b"%", b"%2", b"%zz", b"%ff", b"%ed%a0%80", b"a" * 1025, b"", b"%C0%AF"]
)
async def test_what_can_be_no_key_is_no_key(path: bytes) -> None:
    async with served() as api:
        answer = await api.one(b"GET /v1/images/images/", path, b" HTTP/1.1\r\n", api.key, b"\r\n")
        assert (answer.status, answer.code) == (400, "invalid_key")


def answer_key(answer: RawAnswer) -> str:
    return str(json.loads(answer.body)["key"])


async def know(api: Served, key: str) -> None:
    made = prediction(key=key)
    await api.parts.index.apply([IndexEntry(made, api.parts.codec.encode(made))])


async def drip(client: RawClient, piece: bytes = b" ") -> None:
    """Send a little now and then, for ever."""
    while True:
        client.send(piece)
        await asyncio.sleep(0.2)
