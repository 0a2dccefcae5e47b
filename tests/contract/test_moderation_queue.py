"""One suite on the memory twin and on Redis: what the moderators' queue promises."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.domain.moderation import Waiting
from app.moderation.redis_queue import RedisQueue
from app.ports.moderation import Lease, ModerationQueue
from app.settings import ModerationSettings
from tests.support.manual_clock import ManualClock
from tests.support.memory.moderation import MemoryModerationQueue
from tests.support.redis_process import RedisProcess

NOW_MS = 1_795_000_100_000
SETTINGS = ModerationSettings(lease_seconds=60, skip_hours=1)
ALL = ("notify", "review", "block")


class Desk:
    """A queue with a clock that the test moves."""

    def __init__(self, queue: ModerationQueue, clock: ManualClock) -> None:
        self.queue = queue
        self.clock = clock

    async def put(self, *waiting: Waiting) -> None:
        await self.queue.put([((one.bucket, one.key), one) for one in waiting])

    async def lease(self, moderator: str, count: int = 1, actions: tuple[str, ...] = ALL) -> list[Lease]:
        return list(await self.queue.lease(moderator, count, actions))

    async def keys(self, moderator: str, count: int = 1, actions: tuple[str, ...] = ALL) -> list[str]:
        return [lease.waiting.key for lease in await self.lease(moderator, count, actions)]


@pytest_asyncio.fixture(params=["memory", "redis"])
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    clock = ManualClock(NOW_MS)
    if request.param == "memory":
        yield Desk(MemoryModerationQueue(SETTINGS, clock), clock)
        return
    server = RedisProcess(tmp_path)
    await server.start()
    queue = RedisQueue(server.settings(), SETTINGS, clock)
    try:
        yield Desk(queue, clock)
    finally:
        await queue.close()
        await server.close()


def waits(key: str, *, weight: int = 50, age_seconds: float = 10, action: str = "review") -> Waiting:
    return Waiting("images", key, f"flag-{key}", action, weight, NOW_MS - round(age_seconds * 1000))


async def test_the_weightier_goes_first_until_the_older_has_waited_longer(desk: Desk) -> None:
    await desk.put(waits("light-old", weight=10, age_seconds=100), waits("heavy-new", weight=90, age_seconds=1))
    await desk.put(waits("heavy-old", weight=90, age_seconds=50), waits("light-new", weight=10, age_seconds=2))
    # 90 × 51, 10 × 101, 90 × 2, 10 × 3
    assert await desk.keys("ana", 4) == ["heavy-old", "light-old", "heavy-new", "light-new"]


async def test_no_image_is_shown_to_two(desk: Desk) -> None:
    await desk.put(*(waits(f"{number:03d}", weight=1 + number % 100, age_seconds=number) for number in range(60)))
    moderators = [f"m{number}" for number in range(12)]
    found = await asyncio.gather(*(desk.lease(moderator, 5) for moderator in moderators))
    keys = [lease.waiting.key for leases in found for lease in leases]
    assert len(keys) == 60 == len(set(keys))
    assert await desk.lease("late", 5) == []
    assert (await desk.queue.counts()).leased == 60


async def test_a_moderator_gets_his_own_again(desk: Desk) -> None:
    await desk.put(waits("a"), waits("b"), waits("c"))
    first = await desk.lease("ana", 2)
    again = await desk.lease("ana", 2)
    assert {one.lease_id for one in again} == {one.lease_id for one in first}
    assert await desk.keys("ben", 5) == [({"a", "b", "c"} - {one.waiting.key for one in first}).pop()]


async def test_a_lease_that_is_not_renewed_ends(desk: Desk) -> None:
    await desk.put(waits("a"), waits("b"))
    kept, lost = await desk.lease("ana", 2)
    await desk.clock.sleep(40)
    assert list(await desk.queue.renew("ana", [kept.lease_id])) == [kept.lease_id]
    assert list(await desk.queue.renew("ben", [kept.lease_id])) == []
    await desk.clock.sleep(40)
    assert await desk.keys("ben", 5) == [lost.waiting.key]
    assert list(await desk.queue.renew("ana", [kept.lease_id, lost.lease_id])) == [kept.lease_id]


async def test_what_is_given_back_keeps_its_place(desk: Desk) -> None:
    await desk.put(waits("first", age_seconds=100), waits("second", age_seconds=50))
    lease, _ = await desk.lease("ana", 2)
    await desk.queue.release("ben", [lease.lease_id])
    assert await desk.keys("ben", 2) == []
    await desk.queue.release("ana", [lease.lease_id])
    assert await desk.keys("ben", 2) == ["first"]


async def test_what_is_settled_waits_no_more(desk: Desk) -> None:
    await desk.put(waits("leased", age_seconds=100), waits("free"))
    assert await desk.keys("ana") == ["leased"]
    await desk.queue.put([(("images", "leased"), None), (("images", "free"), None)])
    assert await desk.lease("ana", 5) == []
    counts = await desk.queue.counts()
    assert dict(counts.by_action) == {} and counts.leased == 0 and counts.oldest_ms is None


async def test_only_the_place_that_was_seen_is_withdrawn(desk: Desk) -> None:
    await desk.put(waits("a", weight=10))
    await desk.put(waits("a", weight=20))
    await desk.queue.withdraw(waits("a", weight=10))
    assert await desk.keys("ana", 5) == ["a"]
    await desk.queue.withdraw(waits("a", weight=20))
    assert await desk.keys("ana", 5) == []


async def test_skipping_shows_it_to_others_and_later_to_him_again(desk: Desk) -> None:
    await desk.put(waits("a", age_seconds=100), waits("b"))
    assert await desk.keys("ana") == ["a"]
    await desk.queue.skip("ana", ("images", "a"))
    assert await desk.keys("ana", 5) == ["b"]
    assert await desk.keys("ben", 5) == ["a"]
    await desk.clock.sleep(3601)
    assert sorted(await desk.keys("ana", 5)) == ["a", "b"]


async def test_only_the_asked_actions(desk: Desk) -> None:
    await desk.put(waits("a", action="block"), waits("b", action="notify"), waits("c", action="review"))
    assert await desk.keys("ana", 5, ("block",)) == ["a"]
    assert await desk.keys("ana", 5, ("notify", "review")) in (["b", "c"], ["c", "b"])
    assert dict((await desk.queue.counts()).by_action) == {"block": 1, "notify": 1, "review": 1}


async def test_putting_it_again_changes_nothing_and_a_new_flag_its_place(desk: Desk) -> None:
    await desk.put(waits("a", weight=10), waits("b", weight=20))
    await desk.put(waits("a", weight=10))
    assert await desk.keys("ana") == ["b"]
    await desk.put(waits("b", weight=20))  # leased, and stays it
    await desk.put(waits("a", weight=90, action="block"))
    assert await desk.keys("ben", 5) == ["a"]
    counts = await desk.queue.counts()
    assert dict(counts.by_action) == {"block": 1, "review": 1} and counts.leased == 2


async def test_one_image_can_be_taken(desk: Desk) -> None:
    await desk.put(waits("a"))
    taken = await desk.queue.take("ana", waits("a"))
    assert taken is not None and taken.waiting.key == "a"
    assert await desk.queue.take("ben", waits("a")) is None
    fresh = await desk.queue.take("ben", waits("undone"))
    assert fresh is not None
    assert await desk.keys("ben", 3) == ["undone"]


async def test_looking_ahead_leases_nothing(desk: Desk) -> None:
    await desk.put(*(waits(f"{number}", weight=number) for number in range(1, 9)))
    await desk.lease("ana", 1)
    ahead = await desk.queue.ahead(3, ALL)
    assert [(waiting.key, holder) for waiting, holder in ahead] == [("8", "ana"), ("7", ""), ("6", "")]
    assert await desk.keys("ben", 2) == ["7", "6"]
    counts = await desk.queue.counts()
    assert dict(counts.by_action) == {"review": 8} and counts.oldest_ms == NOW_MS - 10_000


async def test_keys_with_every_character(desk: Desk) -> None:
    keys = ("a\tb", "line\nbreak", "日本 語.jpg", "a/b/../c", "}{", "")
    await desk.put(*(waits(key) for key in keys))
    assert sorted(await desk.keys("ana", 9)) == sorted(keys)


@pytest.mark.parametrize("seed", range(5))
async def test_any_play_of_moderators_loses_no_image_and_shows_none_twice(desk: Desk, seed: int) -> None:
    draw = random.Random(seed)
    open_keys = {f"{number:02d}" for number in range(25)}
    await desk.put(*(waits(key, weight=draw.randint(1, 100), age_seconds=draw.randint(0, 99)) for key in open_keys))
    holding: dict[str, tuple[str, str, int]] = {}
    for _ in range(300):
        now = desk.clock.now_ms()
        moderator = draw.choice(("ana", "ben", "eve"))
        match draw.choice(("lease", "lease", "decide", "release", "renew", "wait")):
            case "lease":
                for lease in await desk.lease(moderator, draw.randint(1, 3)):
                    held = holding.get(lease.waiting.key)
                    assert held is None or held[0] == moderator or held[2] <= now
                    assert lease.waiting.key in open_keys
                    holding[lease.waiting.key] = (moderator, lease.lease_id, lease.expires_ms)
            case "decide" if holding:
                key = draw.choice(sorted(holding))
                await desk.queue.put([(("images", key), None)])
                open_keys.discard(key)
                del holding[key]
            case "release" if holding:
                key = draw.choice(sorted(holding))
                await desk.queue.release(holding[key][0], [holding[key][1]])
                if holding[key][2] > now:
                    del holding[key]
            case "renew" if holding:
                key = draw.choice(sorted(holding))
                owner, lease_id, ends = holding[key]
                kept = await desk.queue.renew(owner, [lease_id])
                assert ends <= now or list(kept) == [lease_id]
                if kept:
                    holding[key] = (owner, lease_id, now + 60_000)
            case _:
                await desk.clock.sleep(draw.randint(1, 30))
    await desk.clock.sleep(61)
    left = await desk.queue.lease("last", 100, ALL)
    assert {lease.waiting.key for lease in left} == open_keys
