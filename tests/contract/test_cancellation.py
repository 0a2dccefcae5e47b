"""What was told to end does end, also where a library lost the cancellation."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from app.access.redis_sessions import RedisUse
from app.api import background
from app.api.background import beside
from app.settings import RedisSettings, Secret
from app.systems.redis.client import connect, redis_errors
from tests.support.redis_process import RedisProcess


async def _lose_one_cancellation(entered: asyncio.Event) -> None:
    with suppress(asyncio.CancelledError):
        entered.set()
        await asyncio.Event().wait()


async def test_a_cancellation_lost_in_a_question_to_redis_ends_who_asked() -> None:
    client, entered = connect(RedisSettings(url=Secret("redis://127.0.0.1:1"))), asyncio.Event()

    async def ask() -> None:
        with redis_errors(client):
            await _lose_one_cancellation(entered)
        pytest.fail("went on as if nothing had come")

    asking = asyncio.create_task(ask())
    await entered.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_who_is_being_cancelled_may_still_ask_redis() -> None:
    client, entered, cleaned = connect(RedisSettings(url=Secret("redis://127.0.0.1:1"))), asyncio.Event(), False

    async def ask() -> None:
        nonlocal cleaned
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            with redis_errors(client):
                await asyncio.sleep(0)
            cleaned = True

    asking = asyncio.create_task(ask())
    await entered.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert cleaned


async def test_what_runs_beside_the_requests_is_told_to_end_again_when_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "_AGAIN_SECONDS", 0.02)
    entered = asyncio.Event()

    async def deaf() -> None:
        await _lose_one_cancellation(entered)
        await asyncio.Event().wait()

    async with asyncio.timeout(5), beside(deaf()):
        await entered.wait()


async def test_nothing_to_run_beside_ends_at_once() -> None:
    async with asyncio.timeout(5), beside():
        pass


async def test_no_moment_of_a_real_question_loses_it(tmp_path: Path) -> None:
    """Cancelled at hundreds of moments of connecting, sending and reading: each ends whoever asked."""
    server = RedisProcess(tmp_path)
    await server.start()
    lost = 0
    try:
        for moment in range(400):
            use = RedisUse(server.settings())
            asking = asyncio.create_task(use.add({"a": 1}))
            await asyncio.sleep(moment * 1e-5)
            over = asking.done()
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
                lost += not over
            await use.close()
    finally:
        await server.close()
    assert lost == 0
