"""The ledger and the dead letters on a real broker; tests/unit has their behaviour case by case."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest
import pytest_asyncio

from app.dead_letters.dead_letters import TRANSACTIONAL_ID, LetterFilter, Redriver, find_letters
from app.domain import identity
from app.ports.records import Output
from app.settings import KafkaSettings
from app.stack.local import LocalStack
from app.topics import RETRIES_30S, TASKS
from schemas.records import DeadLetter
from tests.support.ingest import NOW_MS, KafkaPipeline, identified, sums, upload

pytestmark = pytest.mark.services


@pytest_asyncio.fixture
async def pipeline(stack: LocalStack, topics: str) -> AsyncIterator[KafkaPipeline]:
    async with KafkaPipeline(KafkaSettings(bootstrap=stack.kafka, prefix=topics)) as staged:
        yield staged


async def test_every_fate_of_an_upload_is_counted(pipeline: KafkaPipeline) -> None:
    reader = pipeline.reader()
    await pipeline.notify(*(upload(number) for number in range(1, 5)))
    assert sums(await reader.read()) == (4, 0, 0, 0, 0, 4)
    scored, deferred, doubled, _ = await identified(pipeline)
    assert sums(await reader.read()) == (4, 0, 0, 0, 0, 4)
    await pipeline.score(scored, doubled, doubled)
    deferred = replace(deferred, attempt=2, not_before_ms=NOW_MS + 30_000)
    await pipeline.publish(Output(RETRIES_30S, identity.task_key(deferred), deferred))
    await pipeline.commit("score", TASKS)
    assert sums(await reader.read()) == (4, 2, 0, 1, 1, 1)
    assert sums(await pipeline.ledger()) == (4, 2, 0, 1, 1, 1)


async def test_an_open_letter_is_an_upload_until_it_is_redriven(pipeline: KafkaPipeline) -> None:
    await pipeline.notify(b"rubbish")
    (letter,) = await pipeline.identify()
    assert isinstance(letter, DeadLetter)
    assert sums(await pipeline.ledger()) == (1, 0, 1, 0, 0, 0)
    async with pipeline.transactions(TRANSACTIONAL_ID) as producer:
        redriver = Redriver(producer, pipeline.log, pipeline.codec, pipeline.clock, "operator@test")
        (sent,) = await redriver.redrive([letter], again=False)
    assert sent.refused == ""
    assert [record.value for record in await pipeline.records(letter.source.topic)] == [b"rubbish"] * 2
    async with aclosing(find_letters(pipeline.log, pipeline.codec, LetterFilter())) as letters:
        assert [found async for found in letters] == []
    assert sums(await pipeline.ledger()) == (1, 0, 0, 0, 0, 1)
