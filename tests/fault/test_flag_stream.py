"""The broker goes away under subscribers of the stream of flagged images."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import httpx
import pytest

from app.domain.identity import image_key
from app.stack.local import KAFKA, LocalStack
from app.systems.kafka.producer import KafkaProducer
from app.systems.registry.avro import Codec
from app.topics import FLAGGED
from tests.support.api.over_http import LiveApi, live_api, live_settings, server_events
from tests.support.eventually import eventually
from tests.support.outcomes import flag_of, prediction

pytestmark = pytest.mark.services
CODEC = Codec()


class ComingBack:
    """A client that takes some flags, goes, and comes back with its last id; also when it is refused or cut."""

    def __init__(self, api: LiveApi, at_once: int) -> None:
        self._api = api
        self._at_once = at_once
        self.seen: list[int] = []
        self.connected = 0
        self.last = ""

    async def run(self) -> None:
        while True:
            taken = 0
            try:
                async with aclosing(server_events(self._api.client, last_event_id=self.last)) as events:
                    async for event in events:
                        self.connected += not taken
                        self.last = event.event_id
                        if event.kind:
                            self.seen.append(int(event.data["flag_id"]))
                            taken += 1
                        if taken == self._at_once:
                            break
            except httpx.HTTPError:
                await asyncio.sleep(0.2)


async def test_broker_killed_under_subscribers_costs_no_flag_and_repeats_none(stack: LocalStack, topics: str) -> None:
    """Guarantee: through an outage of the broker each flag comes once to whoever comes back by id, or just stays."""
    settings = live_settings(stack, topics)
    producer = KafkaProducer(settings.kafka)
    async with live_api(settings) as api:
        restless, patient = ComingBack(api, 7), ComingBack(api, 1_000_000)
        tasks = [asyncio.create_task(one.run()) for one in (restless, patient)]
        await eventually(lambda: restless.last and patient.last, 30)

        async def publish(first: int, count: int) -> None:
            flags = (flag_of(prediction(key=f"{n}.jpg"), flag_id=str(n)) for n in range(first, first + count))
            await producer.send_batch(
                [(FLAGGED, image_key(flag.bucket, flag.key), CODEC.encode(flag)) for flag in flags]
            )

        await publish(0, 100)
        await eventually(lambda: len(restless.seen) >= 50, 60)
        await stack.kill(KAFKA)
        # A client that comes meanwhile is refused, or waits where it is.
        await eventually(lambda: len(patient.seen) == 100, 30)
        await stack.restart(KAFKA)
        await publish(100, 100)
        await eventually(lambda: min(len(restless.seen), len(patient.seen)) >= 200, 120)
        # Nothing comes a second time.
        await publish(200, 1)
        await eventually(lambda: restless.seen[-1:] == [200] and patient.seen[-1:] == [200], 60)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(restless.seen) == list(range(201))
        assert sorted(patient.seen) == list(range(201))
    await producer.close()
