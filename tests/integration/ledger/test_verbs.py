"""audit, dead-letters and reconcile as an operator types them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.settings import KafkaSettings
from app.stack.local import LocalStack
from app.topics import TASKS
from schemas.records import DeadLetter, ImageTask
from tests.integration.bridge.test_bridge import put
from tests.support.event_messages import message, record
from tests.support.ingest import KafkaPipeline
from tests.support.stack import TestNames
from tests.support.verbs import run_verb

pytestmark = pytest.mark.services


class Operator:
    """Types verbs and reads what they print."""

    def __init__(self, stack: LocalStack, pipeline: KafkaPipeline) -> None:
        self.pipeline = pipeline
        self._variables = stack.environment | {
            "SIGHTLINE_KAFKA_PREFIX": pipeline.kafka.prefix,
            "SIGHTLINE_S3_EXCLUDED_PREFIXES": "lake/",
        }

    async def types(self, *arguments: str) -> tuple[int, str, str]:
        return await run_verb(self._variables, *arguments)


@pytest_asyncio.fixture
async def operator(stack: LocalStack, topics: str) -> AsyncIterator[Operator]:
    async with KafkaPipeline(KafkaSettings(bootstrap=stack.kafka, prefix=topics)) as staged:
        yield Operator(stack, staged)


async def test_audit_and_dead_letters(operator: Operator) -> None:
    pipeline = operator.pipeline
    await pipeline.notify(message(record()), message(record(object={"key": "b.jpg"})), b"rubbish")
    code, out, _ = await operator.types("audit")
    assert (code, out) == (
        0,
        "uploads=3 outcomes=0 open_dead_letters=0 lost=0 duplicated=0 in_flight=3\n",
    )
    made = await pipeline.identify()
    tasks = [one for one in made if isinstance(one, ImageTask)]
    (letter,) = (one for one in made if isinstance(one, DeadLetter))
    await pipeline.score(*tasks[:1])
    await pipeline.commit("score", TASKS)
    code, out, _ = await operator.types("audit")
    assert code == 1
    assert out.splitlines()[0].startswith(f"lost: s3://images/{tasks[1].key} {tasks[1].upload_id} s3.uploads/")
    assert out.splitlines()[-1] == "uploads=3 outcomes=1 open_dead_letters=1 lost=1 duplicated=0"
    await pipeline.score(*tasks[1:])
    code, out, _ = await operator.types("audit", "--json", "--bucket", "images", "--no-listing")
    assert (code, json.loads(out)["uploads"], json.loads(out)["balanced"]) == (0, 2, True)

    code, out, _ = await operator.types("dead-letters", "ls", "--json")
    assert [json.loads(line)["letter_id"] for line in out.splitlines()] == [letter.letter_id]
    code, out, _ = await operator.types("dead-letters", "ls")
    assert "not_json" in out
    code, out, _ = await operator.types("dead-letters", "show", letter.letter_id[:8], "--json")
    assert (code, json.loads(out)["value"]) == (0, "rubbish")
    code, _, err = await operator.types("dead-letters", "show", "ffff")
    assert (code, err) == (1, "no letter begins with 'ffff'\n")
    code, _, err = await operator.types("dead-letters", "redrive")
    assert code == 2
    assert err.startswith("sightline: redrive what?")
    code, out, _ = await operator.types("dead-letters", "redrive", "--reason", "not_json", "--dry-run")
    assert (code, out) == (0, "1 would be redriven, 0 refused\n")
    code, out, _ = await operator.types("dead-letters", "redrive", letter.letter_id)
    assert (code, out) == (0, "1 redriven, 0 refused\n")
    code, out, err = await operator.types("dead-letters", "redrive", letter.letter_id)
    assert (code, out) == (1, "0 redriven, 1 refused\n")
    assert "--again" in err
    code, out, _ = await operator.types("dead-letters", "ls", "--json")
    assert out == ""


async def test_reconcile_leaves_young_objects_alone_and_audit_says_that_they_are_in_flight(
    operator: Operator, stack: LocalStack, names: TestNames
) -> None:
    await stack.notify_queue(names.bucket, names.queue)
    await put(stack, names.bucket, ["in/a.jpg", "in/b.jpg", "lake/c.parquet"])
    code, out, err = await operator.types("reconcile", f"s3://{names.bucket}", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["listed"], found["too_young"], found["filtered"], found["missing"]) == (3, 2, 1, 0)
    code, out, _ = await operator.types("audit", f"s3://{names.bucket}/in/", "--wait", "1")
    assert (code, out) == (1, "uploads=2 outcomes=0 open_dead_letters=0 lost=0 duplicated=0 in_flight=2\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reconcile", "bucket/prefix"), "is no place in S3"),
        (("reconcile", "s3://b", "--older-than", "5"), "such as 90s, 10m, 2h or 1d"),
        (("reconcile", "s3://b", "--older-than", "5s"), "at least 1m"),
        (("reconcile", "s3://b", "--within", "90d"), "30d"),
        (("reconcile", "s3://b", "--rate", "fast"), "such as 50/s"),
        (("audit", "s3://b", "--bucket", "b"), "name the bucket once"),
        (("audit", "--from", "yesterday"), "2026-11-23T09:15"),
    ],
)
async def test_bad_usage_is_one_sentence(operator: Operator, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = await operator.types(*arguments)
    assert code == 2
    assert err.startswith("sightline: ")
    assert said in err
    assert err.count("\n") == 1
