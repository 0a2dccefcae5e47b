"""One suite on the memory twin and on Redis: what the log of decisions promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.moderation.ports import DecisionLog
from app.moderation.redis_decisions import RedisDecisionLog
from tests.support.manual_clock import ManualClock
from tests.support.memory.moderation import MemoryDecisionLog
from tests.support.outcomes import decision_of, flag_of, prediction
from tests.support.redis_process import RedisProcess

FLAG = flag_of(prediction())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture(params=["memory", "redis"])
async def log(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncIterator[DecisionLog]:
    if request.param == "memory":
        yield MemoryDecisionLog(clock)
        return
    server = RedisProcess(tmp_path)
    await server.start()
    found = RedisDecisionLog(server.settings(), clock)
    try:
        yield found
    finally:
        await found.close()
        await server.close()


async def test_of_many_who_ask_at_once_one_is_first(log: DecisionLog) -> None:
    claims = await asyncio.gather(*(log.claim("d", "reject it", 45_000) for _ in range(10)))
    assert sum(claim.new for claim in claims) == 1
    assert {claim.request for claim in claims} == {"reject it"} and {claim.wire for claim in claims} == {None}


async def test_a_claim_whose_owner_died_is_taken_over_by_one(log: DecisionLog, clock: ManualClock) -> None:
    began = (await log.claim("d", "reject it", 45_000)).since_ms
    await clock.sleep(44)
    assert not (await log.claim("d", "reject it", 45_000)).taken
    await clock.sleep(2)
    claims = await asyncio.gather(*(log.claim("d", "reject it", 45_000) for _ in range(10)))
    assert sum(claim.taken for claim in claims) == 1 and not any(claim.new for claim in claims)
    assert {claim.since_ms for claim in claims} == {began}
    await clock.sleep(46)
    assert (await log.claim("d", "reject it", 45_000)).taken


async def test_what_was_made_is_told_with_its_record(log: DecisionLog, clock: ManualClock) -> None:
    decision = decision_of(FLAG)
    began = (await log.claim(decision.decision_id, "reject it", 45_000)).since_ms
    await clock.sleep(2)
    await log.made(decision, b"\x00with\ttabs", "")
    claim = await log.claim(decision.decision_id, "reject it", 45_000)
    assert (claim.new, claim.request, claim.since_ms, claim.wire) == (False, "reject it", began, b"\x00with\ttabs")
    other = await log.claim(decision.decision_id, "approve it", 45_000)
    assert not other.new and other.request != "approve it"


async def test_an_abandoned_claim_is_free_and_a_made_one_stays(log: DecisionLog) -> None:
    decision = decision_of(FLAG)
    await log.claim(decision.decision_id, "x", 45_000)
    await log.abandon(decision.decision_id)
    assert (await log.claim(decision.decision_id, "y", 45_000)).new
    await log.made(decision, b"wire", "")
    await log.abandon(decision.decision_id)
    assert (await log.claim(decision.decision_id, "y", 45_000)).wire == b"wire"


async def test_each_is_counted_once_and_what_is_taken_back_is_taken_off(log: DecisionLog, clock: ManualClock) -> None:
    first, undo = decision_of(FLAG), decision_of(FLAG, "skip", number=2, reverses="decision-1")
    other = decision_of(FLAG, "approve", number=3, moderator="ben")
    for decision, reversed_kind in ((first, ""), (first, ""), (undo, "reject"), (undo, "reject"), (other, "")):
        await log.claim(decision.decision_id, "", 45_000)
        await log.made(decision, b"w", reversed_kind)
    assert {place: count for place, count in (await log.today()).items() if count} == {
        ("ben", "approve"): 1,
    }
    await clock.sleep(86_400)
    assert dict(await log.today()) == {}


async def test_a_claim_that_was_lost_meanwhile_is_no_error(log: DecisionLog) -> None:
    await log.made(decision_of(FLAG), b"w", "")
    assert (await log.claim(decision_of(FLAG).decision_id, "x", 45_000)).wire == b"w"
