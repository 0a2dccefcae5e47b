from __future__ import annotations

import asyncio

from app.pipeline.index import IndexProcessor
from app.ports.records import Completion
from app.systems.registry.avro import Codec
from schemas.records import DeadLetter
from tests.support.eventually import eventually
from tests.support.manual_clock import LaneStatusLog, ManualClock
from tests.support.memory.index import MemoryIndex
from tests.support.outcomes import facts_in, flag_of, prediction, removal, source_record

CODEC = Codec()


class Rig:
    def __init__(self, max_batch: int = 512) -> None:
        self.index = MemoryIndex()
        self.clock = ManualClock()
        self.status = LaneStatusLog()
        self.processor = IndexProcessor(CODEC, facts_in(self.index), self.clock, self.status, max_batch=max_batch)

    def start(self, key: str) -> asyncio.Task[Completion]:
        wire = CODEC.encode(prediction(key=key, upload_id=key))
        return asyncio.ensure_future(self.processor.process(source_record(wire)))

    async def knows(self, key: str) -> bool:
        return await self.index.image("images", key) is not None


async def test_all_three_topics_are_stored() -> None:
    rig = Rig()
    outcome = prediction()
    for fact in (outcome, flag_of(outcome), removal(order=2)):
        assert await rig.processor.process(source_record(CODEC.encode(fact))) == Completion()
    found = await rig.index.image("images", "shop/photo-0001.jpg")
    assert found is not None and found.removed_at_ms is not None


async def test_concurrent_records_share_round_trips() -> None:
    rig = Rig(max_batch=100)
    await asyncio.gather(*(rig.start(f"{number}.jpg") for number in range(250)))
    assert sum(rig.index.batches) == 250
    assert len(rig.index.batches) <= 4
    assert max(rig.index.batches) == 100


async def test_an_index_that_is_away_is_waited_for() -> None:
    rig = Rig()
    rig.index.available = False
    task = rig.start("a.jpg")
    await eventually(lambda: len(rig.clock.sleeps) >= 8)
    assert not task.done()
    assert set(rig.status.said) == {"waiting:index"}
    assert max(rig.clock.sleeps) == 5.0
    rig.index.available = True
    async with asyncio.timeout(5):
        await task
    assert rig.status.said[-1] == "working"
    assert await rig.knows("a.jpg")


async def test_a_cancelled_record_does_not_hold_up_its_neighbours() -> None:
    rig = Rig()
    rig.index.available = False
    leader, follower = rig.start("leader.jpg"), rig.start("follower.jpg")
    await eventually(lambda: bool(rig.clock.sleeps))
    leader.cancel()
    await asyncio.wait({leader})
    assert leader.cancelled()
    rig.index.available = True
    async with asyncio.timeout(5):
        await follower
    assert await rig.knows("follower.jpg")


async def test_an_unreadable_record_is_a_dead_letter() -> None:
    rig = Rig()
    completion = await rig.processor.process(source_record(b"rubbish"))
    (letter,) = [output.record for output in completion.outputs if isinstance(output.record, DeadLetter)]
    assert (letter.agent, letter.reason, letter.value) == ("index", "not_avro", b"rubbish")
    assert completion.dead_letters == 1
    assert rig.index.batches == []
