"""The stream of flagged images over real HTTP, on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing

import httpx
import pytest
import pytest_asyncio

from app.domain.identity import image_key
from app.stack.local import LocalStack
from app.systems.kafka.producer import KafkaTransactionalProducer
from app.systems.registry.avro import Codec
from app.topics import FLAGGED
from tests.support.api.over_http import LiveApi, ServerEvent, live_api, live_settings, server_events
from tests.support.eventually import eventually
from tests.support.outcomes import flag_of, prediction

pytestmark = pytest.mark.services
CODEC = Codec()


@pytest_asyncio.fixture
async def api(stack: LocalStack, topics: str) -> AsyncIterator[LiveApi]:
    async with live_api(live_settings(stack, topics, max_streams=3)) as running:
        yield running


@pytest_asyncio.fixture
async def producer(stack: LocalStack, topics: str) -> AsyncIterator[KafkaTransactionalProducer]:
    async with KafkaTransactionalProducer(live_settings(stack, topics).kafka, "flags") as made:
        yield made


async def _publish(producer: KafkaTransactionalProducer, numbers: Iterable[int], action: str = "block") -> None:
    """Publish flags, a transaction for each three: between them lie offsets without records."""
    waiting: list[tuple[str, bytes | None, bytes]] = []
    for number in numbers:
        flag = flag_of(prediction(key=f"{number}.jpg"), flag_id=str(number), action=action)
        waiting.append((FLAGGED, image_key(flag.bucket, flag.key), CODEC.encode(flag)))
        if len(waiting) == 3:
            await producer.publish(waiting)
            waiting = []
    if waiting:
        await producer.publish(waiting)


async def _take(api: LiveApi, count: int, last: str, path: str = "/v1/stream/flagged") -> tuple[list[int], str]:
    """Return the numbers of `count` flags that come after the id `last`, and the last id then."""
    seen: list[int] = []
    async with aclosing(server_events(api.client, path, last)) as events:
        async with asyncio.timeout(30):
            async for event in events:
                last = event.event_id
                if event.kind:
                    seen.append(int(event.data["flag_id"]))
                if len(seen) >= count:
                    break
    return seen, last


async def test_what_is_published_before_during_and_after_a_reconnect_comes_once(
    api: LiveApi, producer: KafkaTransactionalProducer
) -> None:
    async with aclosing(server_events(api.client)) as events:
        begins = await anext(events)
        assert (begins.kind, begins.data) == ("", None)
        await _publish(producer, range(20))
        seen: list[ServerEvent] = []
        async for event in events:
            seen.append(event)
            if len([one for one in seen if one.kind]) == 12:
                break
    first = [int(one.data["flag_id"]) for one in seen if one.kind]
    await _publish(producer, range(20, 50))
    publishing = asyncio.create_task(_publish(producer, range(50, 80)))
    second, last = await _take(api, 40, seen[-1].event_id)
    await publishing
    third, last = await _take(api, 28, last)
    assert sorted(first + second + third) == list(range(80))
    # And from the very beginning once more, by the first id.
    again, again_last = await _take(api, 80, begins.event_id)
    assert sorted(again) == list(range(80))
    await _publish(producer, [80])
    assert [(await _take(api, 1, last))[0], (await _take(api, 1, again_last))[0]] == [[80], [80]]


async def test_an_event_is_the_flag_and_what_it_is_about(api: LiveApi, producer: KafkaTransactionalProducer) -> None:
    async with api.client.stream("GET", "/v1/stream/flagged") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
        lines = answer.aiter_lines()
        head = [await anext(lines) for _ in range(4)]
        assert [line.partition(":")[0] for line in head] == ["", "retry", "id", ""]
        await _publish(producer, [7])
        text = [await anext(lines) for _ in range(4)]
        assert [line.partition(":")[0] for line in text] == ["id", "event", "data", ""]
    async with aclosing(server_events(api.client, last_event_id=head[2].removeprefix("id: "))) as events:
        data = [event.data async for event in _until_flag(events)][-1]
    flag = flag_of(prediction(key="7.jpg"))
    assert {name: data[name] for name in ("bucket", "key", "upload_id", "sha256", "state", "action", "severity")} == {
        "bucket": flag.bucket,
        "key": "7.jpg",
        "upload_id": flag.upload_id,
        "sha256": flag.sha256,
        "state": "flagged",
        "action": "block",
        "severity": 90,
    }
    assert (data["policy"], data["policy_version"], data["decided_ms"]) == (
        flag.policy,
        flag.policy_version,
        flag.decided_at_ms,
    )
    assert data["rules"][0]["conditions"][0] == {
        "model": "nsfw",
        "version": "1",
        "label": "nsfw",
        "value": pytest.approx(0.97),
        "op": ">=",
        "threshold": pytest.approx(0.85),
        "cached": False,
        "rendition": 0,
    }


async def _until_flag(events: AsyncIterator[ServerEvent]) -> AsyncIterator[ServerEvent]:
    async for event in events:
        yield event
        if event.kind:
            return


async def test_only_the_actions_that_were_asked_for(api: LiveApi, producer: KafkaTransactionalProducer) -> None:
    path = "/v1/stream/flagged?actions=review,block"
    async with aclosing(server_events(api.client, path)) as events:
        begins = (await anext(events)).event_id
    await _publish(producer, range(10), "notify")
    await _publish(producer, range(10, 13), "review")
    await _publish(producer, range(13, 15), "block")
    assert sorted((await _take(api, 5, begins, path))[0]) == list(range(10, 15))


async def test_what_cannot_be_streamed_is_a_problem(api: LiveApi) -> None:
    for headers, path, status, code in (
        ({"Last-Event-ID": "nonsense"}, "", 400, "bad_event_id"),
        ({}, "?actions=frown", 422, "invalid_request"),
        ({}, "?actions=block,", 422, "invalid_request"),
    ):
        answer = await api.client.get(f"/v1/stream/flagged{path}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_places_are_bounded_and_a_client_that_goes_gives_its_back(api: LiveApi) -> None:
    streams = [server_events(api.client) for _ in range(3)]
    for stream in streams:
        await anext(stream)
    answer = await api.client.get("/v1/stream/flagged")
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
    assert int(answer.headers["retry-after"]) > 0
    await streams[0].aclose()

    async def one_more() -> bool:
        try:
            async with aclosing(server_events(api.client)) as events:
                return bool(await anext(events))
        except httpx.HTTPStatusError:
            return False

    await eventually(one_more, 10)
    for stream in streams[1:]:
        await stream.aclose()


async def test_a_service_that_ends_ends_its_streams_first(stack: LocalStack, topics: str) -> None:
    """Guarantee: SIGTERM waits for no stream; each ends as a whole answer, so that its client comes back."""
    loop = asyncio.get_running_loop()
    async with live_api(live_settings(stack, topics)) as api:
        events = server_events(api.client)
        await anext(events)
        began = loop.time()
        api.server.should_exit = True
        # A stream that is cut instead of ended raises here.
        assert [event async for event in events] == []
        assert loop.time() - began < 3
