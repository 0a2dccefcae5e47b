"""One record that kills its worker, again and again, costs itself alone; every other upload has its one outcome.

Real broker, real store, the production score worker with one model that does harm on red pictures, kept alive by the
supervisor of `worker --restart`. Cited by docs/semantics.md.
"""

from __future__ import annotations

import signal
from contextlib import aclosing
from pathlib import Path

import pytest

from app.dead_letters.dead_letters import FoundLetter, LetterFilter, find_letters
from app.demo.pictures import Picture
from app.stack.local import LocalStack
from app.streaming.suspects import CRASHED_WORKER, CRASHES
from app.systems.kafka.topic_log import KafkaTopicLog
from app.topics import TASKS
from schemas.records import ImageTask
from tests.support.decoding.memory_limit import memory_limit
from tests.support.eventually import eventually
from tests.support.pictures import encoded, jpeg, noise
from tests.support.stack import TestNames
from tests.support.streaming.killing_worker import CGROUP_VARIABLE, KillingWorker
from tests.support.whole_pipeline import WholePipeline, whole_pipeline

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]

INNOCENT = 24
GUILTY = "shop/guilty.jpg"
# A worker with the toy model takes some 300 MB; the harm takes all that there is.
LIMIT_BYTES = 1024 * 1024 * 1024
WAIT_SECONDS = 150


@pytest.mark.parametrize("harm", ["abort", "segfault"])
async def test_a_model_that_ends_the_process_on_one_picture_costs_that_picture_alone(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path, harm: str
) -> None:
    """Guarantee: after three crashes the guilty upload is a dead letter with its bytes, which can be redriven."""
    async with whole_pipeline(stack, names, tmp_path) as pipeline:
        sent = await _upload_and_identify(pipeline)
        number = {"abort": signal.SIGABRT, "segfault": signal.SIGSEGV}[harm]
        await _only_the_guilty_one_is_given_up(pipeline, sent, harm, number, {})
        await _redriven_it_is_scored(pipeline, sent)


async def test_a_picture_that_takes_all_memory_costs_itself_alone(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    """Guarantee: the same when the kernel kills the worker for want of memory."""
    with memory_limit(LIMIT_BYTES) as procs:
        async with whole_pipeline(stack, names, tmp_path) as pipeline:
            sent = await _upload_and_identify(pipeline)
            await _only_the_guilty_one_is_given_up(
                pipeline, sent, "memory", signal.SIGKILL, {CGROUP_VARIABLE: str(procs)}
            )


async def _upload_and_identify(pipeline: WholePipeline) -> list[Picture]:
    """Upload pictures, the guilty one in their midst, and return them when all of them wait for score."""
    made = [Picture(f"shop/{number}.png", encoded(noise(number)), "plain", True) for number in range(INNOCENT)]
    made.insert(INNOCENT // 2, Picture(GUILTY, jpeg((255, 0, 0)), "plain", True))
    pipeline.start("bridge", "bridge", "sqs")
    pipeline.start_workers(("identify",))
    sent = await pipeline.upload(made, at_once=1)

    async def identified() -> bool:
        return len(await pipeline.committed(TASKS)) == len(sent)

    await eventually(identified, WAIT_SECONDS, every_seconds=0.5)
    return sent


async def _only_the_guilty_one_is_given_up(
    pipeline: WholePipeline, sent: list[Picture], harm: str, ends_by: signal.Signals, variables: dict[str, str]
) -> None:
    environment = {**pipeline.environment, **variables}
    score = KillingWorker("score", environment, pipeline.folder / "score.log", (harm,))
    pipeline.processes["score"] = score  # type: ignore[assignment]  # ended with the others
    score.start()
    audit = await pipeline.audit(WAIT_SECONDS)
    found = {name: audit.ledger[name] for name in ("uploads", "outcomes", "open_dead_letters", "lost", "duplicated")}
    assert found == {
        "uploads": len(sent),
        "outcomes": len(sent) - 1,
        "open_dead_letters": 1,
        "lost": 0,
        "duplicated": 0,
    }, pipeline.logs()
    assert score.log().count(f"ended with {-ends_by}; starting it again") == CRASHES
    letters = await _letters(pipeline)
    assert [letter.letter.object_key for letter in letters] == [GUILTY]
    assert {letter.letter.reason for letter in letters} == {CRASHED_WORKER}
    task = pipeline.codec.decode_as(letters[0].letter.value, ImageTask)
    assert (task.key, task.upload_id) == (GUILTY, letters[0].letter.upload_id)
    assert "no suspects are left" in score.log()
    assert await score.end(signal.SIGTERM) == 0, score.log()[-3000:]


async def _redriven_it_is_scored(pipeline: WholePipeline, sent: list[Picture]) -> None:
    mended = KillingWorker("score", pipeline.environment, pipeline.folder / "mended.log", ("none",))
    pipeline.processes["mended"] = mended  # type: ignore[assignment]  # ended with the others
    mended.start()
    code, output = await pipeline.verb("dead-letters", "redrive", "--kind", CRASHED_WORKER)
    assert code == 0, output
    audit = await pipeline.audit(WAIT_SECONDS)
    assert audit.clean(len(sent)), f"{audit}\n{pipeline.logs()}"
    outcomes = {outcome.key: outcome.outcome for outcome in await pipeline.predictions()}
    assert outcomes[GUILTY] == "scored"


async def _letters(pipeline: WholePipeline) -> list[FoundLetter]:
    scanner = KafkaTopicLog(pipeline.settings.kafka)
    async with aclosing(find_letters(scanner, pipeline.codec, LetterFilter())) as letters:
        return [letter async for letter in letters]
