"""The bridge while either side is away."""

from __future__ import annotations

import asyncio
import signal

import pytest

from app.stack.local import KAFKA, LocalStack
from tests.integration.bridge.test_bridge import bridge, environment, keys_bridged, put, queue_is_empty
from tests.support.eventually import eventually
from tests.support.stack import TestNames

pytestmark = pytest.mark.services


async def test_the_broker_is_killed_and_comes_back_and_every_upload_meanwhile_arrives(
    stack: LocalStack, topics: str, names: TestNames
) -> None:
    url = await stack.notify_queue(names.bucket, names.queue)
    before, meanwhile, after = ([f"{part}-{n}.jpg" for n in range(40)] for part in ("before", "meanwhile", "after"))
    async with bridge(environment(stack, topics, url)) as process:
        await put(stack, names.bucket, before)
        await eventually(lambda: queue_is_empty(stack, url), 60, every_seconds=0.3)
        await stack.kill(KAFKA)
        await put(stack, names.bucket, meanwhile)
        # Longer than the visibility time of 6 s: what the bridge held is handed out again.
        async with asyncio.timeout(30):
            await _still_waiting(stack, url, 8)
        assert process.returncode is None
        await stack.restart(KAFKA)
        await put(stack, names.bucket, after)
        await eventually(lambda: queue_is_empty(stack, url), 120, every_seconds=0.5)
        assert process.returncode is None
        assert set(await keys_bridged(stack, topics)) == {*before, *meanwhile, *after}
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            await process.wait()
        assert process.returncode == 0


async def _still_waiting(stack: LocalStack, url: str, seconds: float) -> None:
    """Return after `seconds` in which the queue was never empty."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds

    async def over() -> bool:
        assert not await queue_is_empty(stack, url)
        return loop.time() >= until

    await eventually(over, seconds + 10, every_seconds=0.5)


async def test_the_queue_freezes_and_comes_back_and_the_bridge_goes_on(
    stack: LocalStack, topics: str, names: TestNames
) -> None:
    url = await stack.notify_queue(names.bucket, names.queue)
    async with bridge(environment(stack, topics, url)) as process:
        await put(stack, names.bucket, ["one.jpg"])
        await eventually(lambda: queue_is_empty(stack, url), 60, every_seconds=0.3)
        stack.pause("ministack")
        try:
            # The bridge's own read timeout is 11 s; it must outlive it.
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(14):
                    await process.wait()
        finally:
            stack.resume("ministack")
        await put(stack, names.bucket, ["two.jpg"])
        await eventually(lambda: queue_is_empty(stack, url), 60, every_seconds=0.3)
        assert set(await keys_bridged(stack, topics)) == {"one.jpg", "two.jpg"}
        assert process.returncode is None
