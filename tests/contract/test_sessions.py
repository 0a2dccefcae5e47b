"""One suite on the memory twins and on Redis: what sessions and shared use promise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from app.access.ports import Sessions, SharedUse
from app.access.redis_sessions import RedisSessions, RedisUse
from app.domain.sessions import ConsoleSession, session_digest
from app.errors import RedisUnavailable
from tests.support.manual_clock import ManualClock
from tests.support.memory.sessions import MemorySessions, MemoryUse
from tests.support.redis_process import RedisProcess

DIGEST = session_digest("one")


@dataclass(frozen=True, slots=True)
class Shared:
    """What several processes share, and the way to take it away."""

    sessions: Sessions
    use: SharedUse
    clock: ManualClock
    server: RedisProcess | None

    async def vanish(self) -> None:
        if self.server is not None:
            await self.server.kill()
        if isinstance(self.sessions, MemorySessions) and isinstance(self.use, MemoryUse):
            self.sessions.available = self.use.available = False


@pytest_asyncio.fixture(params=["memory", "redis"])
async def shared(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shared]:
    clock = ManualClock()
    if request.param == "memory":
        yield Shared(MemorySessions(clock), MemoryUse(), clock, None)
        return
    server = RedisProcess(tmp_path)
    await server.start()
    sessions, use = RedisSessions(server.settings(), clock), RedisUse(server.settings())
    try:
        yield Shared(sessions, use, clock, server)
    finally:
        await sessions.close()
        await use.close()
        await server.close()


async def test_a_session_is_found_until_it_is_ended(shared: Shared) -> None:
    session = ConsoleSession("abcdefghijkl", shared.clock.now_ms() + 60_000)
    assert await shared.sessions.find(DIGEST) is None
    await shared.sessions.put(DIGEST, session)
    assert await shared.sessions.find(DIGEST) == session
    assert await shared.sessions.find(session_digest("another")) is None
    await shared.sessions.end(DIGEST)
    await shared.sessions.end(DIGEST)
    assert await shared.sessions.find(DIGEST) is None


async def test_a_session_expires(shared: Shared) -> None:
    await shared.sessions.put(DIGEST, ConsoleSession("abcdefghijkl", shared.clock.now_ms() + 60_000))
    await shared.clock.sleep(59.999)
    assert await shared.sessions.find(DIGEST) is not None
    await shared.clock.sleep(0.001)
    assert await shared.sessions.find(DIGEST) is None


async def test_a_session_that_is_over_already_is_not_kept(shared: Shared) -> None:
    await shared.sessions.put(DIGEST, ConsoleSession("abcdefghijkl", shared.clock.now_ms()))
    assert await shared.sessions.find(DIGEST) is None


async def test_use_adds_up_for_each_key(shared: Shared) -> None:
    assert await shared.use.add({"a": 3, "b": 0}) == {"a": 3, "b": 0}
    assert await shared.use.add({"b": 5}) == {"b": 5}
    assert await shared.use.add({"b": 1, "a": 0}) == {"b": 6, "a": 3}


async def test_what_is_away_says_so(shared: Shared) -> None:
    await shared.vanish()
    with pytest.raises(RedisUnavailable):
        await shared.sessions.find(DIGEST)
    with pytest.raises(RedisUnavailable):
        await shared.sessions.put(DIGEST, ConsoleSession("abcdefghijkl", shared.clock.now_ms() + 60_000))
    with pytest.raises(RedisUnavailable):
        await shared.sessions.end(DIGEST)
    with pytest.raises(RedisUnavailable):
        await shared.use.add({"a": 1})
