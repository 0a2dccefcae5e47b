"""ScoreProcessor on toy models and the memory store: each way to an outcome, and what work it costs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio

from app.domain import claims, identity
from app.domain.contents import content_key, decode_row, encode_row
from app.domain.filters import UploadFilter
from app.domain.jobs import RUNNING, Job, JobCursor, JobRequest
from app.domain.policy import Policy, parse_policy
from app.errors import BucketUnavailable, ObjectUnavailable, StoreUnavailable
from app.inference.engine import Engine
from app.pipeline.contents import Contents
from app.pipeline.identify import IdentifyProcessor
from app.pipeline.score import ScoreProcessor, claim_of
from app.ports.index import IndexEntry
from app.ports.objects import ObjectMissing, ObjectRef
from app.ports.records import Completion, SourceRecord
from app.rescoring.plan import rescore_task
from app.settings import EngineSettings, S3Settings, Settings
from app.systems.registry.avro import Codec
from app.topics import BACKFILL, DEAD_LETTERS, EMBEDDINGS, PREDICTIONS, RETRIES_1H, RETRIES_30S, TASKS
from schemas.records import (
    ContentEmbedding,
    DeadLetter,
    ImagePrediction,
    ImageRemoved,
    ImageTask,
    ModelScores,
    Position,
)
from tests.support.decoding.inline import InlineDecoding
from tests.support.event_messages import message, versitygw
from tests.support.eventually import eventually
from tests.support.memory.index import MemoryIndex
from tests.support.memory.objects import MemoryObjectStore
from tests.support.pictures import jpeg
from tests.support.toy_models import ToyModels

POLICY = parse_policy(
    """
policy: toy
version: 1
rules:
  - {id: too-green, action: block, severity: 90, when: {model: tint, label: green, op: ">=", threshold: 0.9}}
  - {id: animated, action: review, severity: 10, when: {field: frames, op: ">", value: 1}}
""",
    "toy.yaml",
)
RED, GREEN, BLUE = jpeg((250, 0, 0)), jpeg((0, 250, 0)), jpeg((0, 0, 250))


class FakeClock:
    """Time that moves only by sleeping; a sleep ends at once, or when the gate opens."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0
        self.slept: list[float] = []
        self.gate: asyncio.Event | None = None

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()


class NotedStatus:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def waiting(self, reason: str) -> None:
        self.said.append(f"waiting {reason}")

    def working(self) -> None:
        self.said.append("working")


class DictTables:
    """Tables of one worker that owns every partition but 99."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, bytes], bytes] = {}

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        if partition == 99:
            raise KeyError(partition)
        return self.rows.get((table, partition, key))


@dataclass
class Bench:
    models: ToyModels
    settings: Settings
    store: MemoryObjectStore
    tables: DictTables = field(default_factory=DictTables)
    clock: FakeClock = field(default_factory=FakeClock)
    status: NotedStatus = field(default_factory=NotedStatus)
    codec: Codec = field(default_factory=Codec)
    policy: Policy = POLICY
    engine_type: type[Engine] = Engine
    offset: int = 0
    engines: list[Engine] = field(default_factory=list)
    processor: ScoreProcessor = field(init=False)
    contents: Contents = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self, models: ToyModels | None = None, settings: Settings | None = None) -> None:
        """A new process on the same tables."""
        self.models = models or self.models
        self.settings = settings or self.settings
        engine = self.engine_type(
            self.models.registry, self.settings.limits, self.settings.inference, self.settings.engine, InlineDecoding()
        )
        self.engines.append(engine)
        self.contents = Contents(engine)
        self.processor = ScoreProcessor(
            codec=self.codec,
            store=self.store,
            contents=self.contents,
            tables=self.tables,
            status=self.status,
            clock=self.clock,
            policy=self.policy,
            settings=self.settings,
            worker="w1",
            release="r1",
        )

    def record(self, task: ImageTask, *, partition: int = 0, topic: str = TASKS) -> SourceRecord:
        self.offset += 1
        return SourceRecord(topic, partition, self.offset, 0, identity.task_key(task), self.codec.encode(task))

    async def run(self, task: ImageTask, *, commit: bool = True, **where: Any) -> Completion:
        """Process, and release as a lane would."""
        record = self.record(task, **where)
        completion = await self.processor.process(record)
        if commit:
            self.commit(record, completion)
        return completion

    def commit(self, record: SourceRecord, completion: Completion) -> None:
        if completion.claim is not None:
            claim = completion.claim
            key = ("uploads", record.partition, claims.row_key(claim.upload_id, claim.object_id))
            asking = claims.StoredClaim(claim.upload_id, claim.attempt, record.position, claim.event_time_ms)
            row = claims.decide(self.tables.rows.get(key), asking).row
            if row is not None:
                self.tables.rows[key] = row
        for write in completion.writes:
            self.tables.rows[write.table, record.partition, write.key] = write.value


def task_of(ref: ObjectRef, number: int = 1, **changes: Any) -> ImageTask:
    task = ImageTask(
        upload_id=identity.upload_id(
            bucket=ref.bucket,
            key=ref.key,
            version_id=ref.version_id,
            etag=ref.etag,
            sequencer=f"{number:04X}",
            dialect="aws",
            event_time_ms=5,
        ),
        bucket=ref.bucket,
        key=ref.key,
        alternate_key=None,
        version_id=ref.version_id,
        etag=ref.etag,
        size_bytes=ref.size_bytes,
        dialect="aws",
        event_name="ObjectCreated:Put",
        sequencer=f"{number:04X}",
        order_key=f"{number:04X}",
        event_time_ms=5 + number,
        identified_at_ms=6,
        source=Position("s3.uploads", 0, number),
        lane="live",
        attempt=1,
        not_before_ms=0,
        defer_reason="",
        job_id=None,
        known_sha256=None,
        models=(),
        force=False,
        previous=(),
    )
    return replace(task, **changes)


def rescored(found: ImagePrediction, *, job: str = "job-1", force: bool = False) -> ImageTask:
    """The task that a job makes of an outcome."""
    request = JobRequest(0, None, "", "", (), force)
    made = Job(job, request, RUNNING, 0, (), 1, 1, 0, 0, JobCursor(0, (), ""), 0.0, "")
    return rescore_task(found, None, made, 7)


def prediction(completion: Completion) -> ImagePrediction:
    (found,) = [output.record for output in completion.outputs if output.topic == PREDICTIONS]
    assert isinstance(found, ImagePrediction)
    assert found == Codec().decode(Codec().encode(found)), "it survives the wire"
    return found


def scores(found: ImagePrediction) -> dict[str, ModelScores]:
    return {one.model: one for one in found.scores}


def embeddings(completion: Completion) -> list[ContentEmbedding]:
    return [output.record for output in completion.outputs if isinstance(output.record, ContentEmbedding)]


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(ToyModels(), Settings(), MemoryObjectStore())
    made.store.create_bucket("b")
    yield made
    for engine in made.engines:
        await engine.close()


async def test_a_new_picture_gets_scores_an_embedding_and_rows(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    completion = await bench.run(task_of(ref))
    found = prediction(completion)
    assert (found.outcome, found.reason, found.cached, found.superseded) == ("scored", "", False, False)
    assert (found.format, found.width, found.height, found.size_bytes) == ("jpeg", 64, 48, len(GREEN))
    assert set(scores(found)) == {"colour", "tint", "detail"}
    assert found.reasons == ("too_green",), "the label over its threshold gives its code"
    assert scores(found)["detail"].skipped
    (embedding,) = [output for output in completion.outputs if output.topic == EMBEDDINGS]
    assert isinstance(embedding.record, ContentEmbedding) and embedding.record.sha256 == found.sha256
    assert {write.table for write in completion.writes} == {"contents", "embeddings"}
    assert completion.claim == claim_of(task_of(ref))
    assert completion.outputs[0].key == b"b/k.jpg" and embedding.key == (found.sha256 or "").encode()


async def test_a_repeat_neither_decodes_nor_merges_a_stored_row_again(bench: Bench) -> None:
    made = prediction(await bench.run(task_of(bench.store.put("b", "k.jpg", GREEN))))
    sha256 = made.sha256 or ""
    stored = bench.tables.get("contents", 0, content_key(sha256))
    known = bench.contents.row(sha256, stored)
    assert known is not None and known == decode_row(stored)
    assert bench.contents.row(sha256, stored) is known
    other = encode_row(replace(known, scores=(replace(known.scores[0], version="0"),)))
    with_older = bench.contents.row(sha256, other)
    assert with_older is not None, "another partition has an older version of one model"
    assert {(scores.model, scores.version) for scores in with_older.scores} == {
        *((scores.model, scores.version) for scores in known.scores),
        (known.scores[0].model, "0"),
    }
    assert bench.contents.row(sha256, b"unreadable") is with_older
    assert bench.contents.row("00" * 32, stored) == decode_row(stored), "not among the recent ones"


async def test_equal_bytes_under_another_key_cost_no_inference(bench: Bench) -> None:
    first = prediction(await bench.run(task_of(bench.store.put("b", "one.jpg", GREEN))))
    bench.restart()
    completion = await bench.run(task_of(bench.store.put("b", "two.jpg", GREEN), 2))
    found = prediction(completion)
    assert bench.models.colour.batches == [1]
    assert found.cached and found.sha256 == first.sha256 and found.format == "jpeg" and found.width == 64
    assert [replace(one, cached=False) for one in found.scores] == list(first.scores)
    assert completion.writes == () and len(completion.outputs) == 1


async def test_equal_bytes_in_flight_run_once_and_each_upload_carries_the_embedding(bench: Bench) -> None:
    refs = [bench.store.put("b", f"{number}.jpg", GREEN) for number in range(5)]
    done = await asyncio.gather(*(bench.run(task_of(ref, n), partition=n % 2) for n, ref in enumerate(refs)))
    assert sum(bench.models.colour.batches) == 1 and bench.contents.counts.joined == 4
    assert [len(embeddings(one)) for one in done] == [1] * 5, "any of them may lose its claim"
    assert [prediction(one).cached for one in done].count(False) == 1
    assert bench.processor._bytes.free == bench.processor._bytes.total


async def test_an_embedding_that_a_lost_claim_took_along_is_published_by_the_next_upload(bench: Bench) -> None:
    refs = [bench.store.put("b", f"{number}.jpg", GREEN) for number in range(4)]
    lost = await bench.run(task_of(refs[0]), commit=False)
    known = await bench.run(task_of(refs[1], 2))
    assert sum(bench.models.colour.batches) == 1 and prediction(known).cached
    (record,) = embeddings(known)
    assert record.values == embeddings(lost)[0].values
    assert {write.table for write in known.writes} == {"contents", "embeddings"}
    stored = await bench.run(task_of(refs[2], 3))
    assert embeddings(stored) == [] and stored.writes == ()
    elsewhere = await bench.run(task_of(refs[3], 4), partition=1)
    assert len(embeddings(elsewhere)) == 1, "that table lacks it"


async def test_cancelling_the_first_of_equal_bytes_leaves_the_others_scored(bench: Bench) -> None:
    bench.models.colour.hold = threading.Event()
    ref = bench.store.put("b", "k.jpg", GREEN)
    first = asyncio.create_task(bench.run(task_of(ref, 1)))
    await eventually(lambda: bench.models.colour.entered == 1)
    second = asyncio.create_task(bench.run(task_of(ref, 2, event_time_ms=999)))
    await eventually(lambda: bench.contents.counts.joined == 1)
    first.cancel()
    await asyncio.wait([first])
    bench.models.colour.hold.set()
    completion = await second
    assert prediction(completion).outcome == "scored"
    assert embeddings(completion), "nobody else would publish it"
    assert bench.processor._bytes.free == bench.processor._bytes.total


async def test_what_was_given_up_is_begun_anew_for_the_next(bench: Bench) -> None:
    bench.models.colour.hold = threading.Event()
    ref = bench.store.put("b", "k.jpg", GREEN)
    first = asyncio.create_task(bench.run(task_of(ref, 1)))
    await eventually(lambda: bench.models.colour.entered == 1)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(bench.run(task_of(ref, 2, event_time_ms=999)))
    bench.models.colour.hold.set()
    assert prediction(await second).outcome == "scored"


async def test_a_live_upload_promotes_its_content_out_of_backfill(bench: Bench) -> None:
    bench.models.colour.hold = threading.Event()
    blocker = asyncio.create_task(bench.run(task_of(bench.store.put("b", "z.jpg", RED), 9)))
    await eventually(lambda: bench.models.colour.entered == 1)
    ref = bench.store.put("b", "k.jpg", GREEN)
    slow = asyncio.create_task(bench.run(task_of(ref, 1, lane="backfill", job_id="j"), topic=BACKFILL))
    await eventually(lambda: bench.contents.counts.computed == 2)
    live = asyncio.create_task(bench.run(task_of(ref, 2)))
    await eventually(lambda: bench.contents.counts.promoted == 1)
    bench.models.colour.hold.set()
    outcomes = [prediction(one).outcome for one in await asyncio.gather(blocker, slow, live)]
    assert outcomes == ["scored"] * 3


async def test_a_new_head_uses_the_stored_embedding_without_the_store(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    first = prediction(await bench.run(task_of(ref)))
    bench.restart(ToyModels(tint_version="2"))
    bench.store.delete("b", "k.jpg")
    bench.store.fetches.clear()
    job = task_of(ref, job_id="j", upload_id="j1", known_sha256=first.sha256, models=("tint@2",), lane="backfill")
    completion = await bench.run(job, topic=BACKFILL)
    found = prediction(completion)
    assert bench.store.fetches == [] and bench.models.colour.batches == []
    assert scores(found)["tint"].version == "2" and not scores(found)["tint"].cached
    assert scores(found)["colour"].cached, "what else is known travels along"
    assert {one.model: one.version for one in found.previous}["tint"] == "1"
    assert (found.format, found.width, found.job_id) == ("jpeg", 64, "j")
    assert not any(output.topic == EMBEDDINGS for output in completion.outputs)
    again = prediction(await bench.run(replace(job, upload_id="j2"), topic=BACKFILL))
    assert again.cached and bench.models.tint.rows == 1


async def test_a_new_network_needs_the_object_and_replaces_the_embedding(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    first = prediction(await bench.run(task_of(ref)))
    bench.restart(ToyModels(colour_version="2"))
    bench.store.fetches.clear()
    job = task_of(ref, job_id="j", upload_id="j1", known_sha256=first.sha256, lane="backfill")
    completion = await bench.run(job, topic=BACKFILL)
    assert len(bench.store.fetches) == 1 and bench.models.colour.batches == [1]
    (embedding,) = [output.record for output in completion.outputs if output.topic == EMBEDDINGS]
    assert isinstance(embedding, ContentEmbedding) and embedding.version == "2"


async def test_force_scores_again_although_all_is_known(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    await bench.run(task_of(ref))
    found = prediction(await bench.run(task_of(ref, upload_id="f", job_id="j", force=True, lane="backfill")))
    assert not found.cached and bench.models.colour.batches == [1, 1]
    assert [one.model for one in found.previous] == ["colour", "tint", "detail", "picture.past"]


async def test_previous_scores_of_the_task_go_before_our_own(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    first = prediction(await bench.run(task_of(ref)))
    given = first.scores[:1]
    found = prediction(await bench.run(task_of(ref, upload_id="f", job_id="j", previous=given, lane="backfill")))
    assert found.previous == given


async def test_a_model_that_is_not_active_is_a_dead_letter(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    for asked in ("tint@7", "stranger"):
        completion = await bench.run(task_of(ref, models=(asked,)))
        (letter,) = [output.record for output in completion.outputs]
        assert isinstance(letter, DeadLetter) and letter.reason == "model_not_active" and completion.claim is None
        assert (letter.bucket, letter.object_key) == ("b", "k.jpg") and letter.upload_id


async def test_only_the_models_asked_for_run(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", RED)
    found = prediction(await bench.run(task_of(ref, models=("tint",))))
    assert set(scores(found)) == {"colour", "tint"} and bench.models.detail.batches == []
    rest = prediction(await bench.run(task_of(ref, 2, event_time_ms=77)))
    assert set(scores(rest)) == {"colour", "tint", "detail"} and bench.models.colour.batches == [1]
    assert not rest.cached and scores(rest)["colour"].cached, "a partial hit"


async def test_what_is_no_task_is_a_dead_letter_with_its_bytes(bench: Bench) -> None:
    record = SourceRecord(TASKS, 0, 1, 0, b"k", b"junk")
    completion = await bench.processor.process(record)
    (output,) = completion.outputs
    assert output.topic == DEAD_LETTERS and completion.dead_letters == 1 and completion.claim is None
    assert isinstance(output.record, DeadLetter) and output.record.value == b"junk"


async def test_a_repeat_does_no_work_and_its_own_record_read_again_does(bench: Bench) -> None:
    task = task_of(bench.store.put("b", "k.jpg", GREEN))
    record = bench.record(task)
    bench.commit(record, await bench.processor.process(record))
    bench.store.fetches.clear()
    assert await bench.run(task) == Completion()
    assert bench.store.fetches == []
    assert prediction(await bench.processor.process(record)).outcome == "scored"
    assert prediction(await bench.run(replace(task, attempt=2))).attempt == 2, "a retry takes over"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"<svg/>", "unsupported_format"),
        (GREEN[:400], "truncated"),
        (b"\xff\xd8\xff\xff", "undecodable"),
    ],
)
async def test_a_bad_picture_is_rejected_with_its_sha256(bench: Bench, body: bytes, reason: str) -> None:
    completion = await bench.run(task_of(bench.store.put("b", "bad", body)))
    found = prediction(completion)
    assert (found.outcome, found.reason) == ("rejected", reason) and found.sha256 and not found.scores
    assert completion.writes == () and completion.dead_letters == 0 and completion.claim is not None
    assert bench.processor._bytes.free == bench.processor._bytes.total


async def test_a_deleted_object_is_gone_after_a_second_look(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    bench.store.delete("b", "k.jpg")
    found = prediction(await bench.run(task_of(ref)))
    assert (found.outcome, found.reason, found.sha256) == ("gone", "deleted", None)
    assert len(bench.store.fetches) == 2 and bench.clock.slept == [S3Settings().gone_retry_seconds]


async def test_missing_objects_hold_neither_bytes_nor_slot_until_the_second_look(bench: Bench) -> None:
    bench.restart(settings=replace(bench.settings, s3=S3Settings(concurrency=1)))
    ref = bench.store.put("b", "k.jpg", GREEN)
    missing = [bench.store.put("b", f"{number}.jpg", RED) for number in range(20)]
    for gone in missing:
        bench.store.delete(gone.bucket, gone.key)
    bench.clock.gate = asyncio.Event()
    waiting = [asyncio.create_task(bench.run(task_of(gone, number))) for number, gone in enumerate(missing)]
    await eventually(lambda: len(bench.clock.slept) == 20)
    assert bench.processor._bytes.free == bench.processor._bytes.total
    assert prediction(await bench.run(task_of(ref, 77))).outcome == "scored", "others go on meanwhile"
    bench.clock.gate.set()
    assert {prediction(one).outcome for one in await asyncio.gather(*waiting)} == {"gone"}
    assert len(bench.store.fetches) == 41
    assert bench.processor._bytes.free == bench.processor._bytes.total
    assert bench.processor._fetches.free == 1


async def test_an_object_that_appears_at_the_second_look_is_scored(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    bench.store.failures = [ObjectMissing("gone", "404")]
    assert prediction(await bench.run(task_of(ref))).outcome == "scored"


@pytest.mark.parametrize(
    ("missing", "reason"), [("archived", "archived"), ("forbidden", "forbidden"), ("too_large", "too_many_bytes")]
)
async def test_an_object_that_the_store_never_gives_is_rejected(bench: Bench, missing: str, reason: str) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    bench.store.failures = [ObjectMissing(missing, "why")]
    found = prediction(await bench.run(task_of(ref)))
    assert (found.outcome, found.reason, found.detail) == ("rejected", reason, "why")


async def test_an_overwritten_object_is_scored_as_it_is_now(bench: Bench) -> None:
    before = bench.store.put("b", "k.jpg", GREEN)
    bench.store.put("b", "k.jpg", RED)
    found = prediction(await bench.run(task_of(before)))
    assert found.superseded and found.etag == before.etag and scores(found)["tint"].labels[0].value > 0.9


async def test_the_other_reading_of_the_key_names_the_outcome(bench: Bench) -> None:
    ref = bench.store.put("b", "a b.jpg", GREEN)
    completion = await bench.run(task_of(replace(ref, key="a+b.jpg"), alternate_key="a b.jpg"))
    found = prediction(completion)
    assert (found.key, found.event_key, completion.outputs[0].key) == ("a b.jpg", "a+b.jpg", b"b/a b.jpg")
    again = prediction(await bench.run(rescored(found)))
    assert (again.key, again.event_key, again.cached) == ("a b.jpg", "a+b.jpg", True)


async def test_a_removal_finds_the_image_whose_upload_was_told_by_the_other_reading(bench: Bench) -> None:
    """Guarantee: with two events of one spelling, what the first put into the index the second takes out."""
    ref = bench.store.put("images", "a b.jpg", GREEN)
    told = {"key": "a+b.jpg", "eTag": ref.etag, "sequencer": "1"}
    events = [
        versitygw(object=told),
        versitygw(eventName="s3:ObjectRemoved:Delete", object={**told, "sequencer": "2"}),
    ]
    identify = IdentifyProcessor(UploadFilter.of(Settings()), bench.clock)
    record = SourceRecord("s3.uploads", 0, 0, 0, None, message(*events))
    task, *removals = (output.record for output in (await identify.process(record)).outputs)
    assert isinstance(task, ImageTask)
    index = MemoryIndex()
    await index.apply([IndexEntry(prediction(await bench.run(task)), b"")])
    found = await index.image("images", "a b.jpg")
    assert found is not None and found.prediction is not None
    for removal in removals:
        assert isinstance(removal, ImageRemoved)
        await index.apply([IndexEntry(removal, b"")])
    found = await index.image("images", "a b.jpg")
    assert found is not None and found.prediction is None


async def test_a_rescoring_says_as_before_that_the_object_was_overwritten(bench: Bench) -> None:
    before = bench.store.put("b", "k.jpg", GREEN)
    bench.store.put("b", "k.jpg", RED)
    first = prediction(await bench.run(task_of(before)))
    fetches = len(bench.store.fetches)
    again = prediction(await bench.run(rescored(first)))
    assert len(bench.store.fetches) == fetches, "the scores are known"
    assert (again.superseded, again.sha256, again.etag) == (True, first.sha256, before.etag)


async def test_a_rescoring_that_reads_the_object_says_what_it_met(bench: Bench) -> None:
    before = bench.store.put("b", "k.jpg", GREEN)
    bench.store.put("b", "k.jpg", RED)
    first = prediction(await bench.run(task_of(before)))
    assert prediction(await bench.run(rescored(first, job="job-1", force=True))).superseded
    bench.store.put("b", "k.jpg", GREEN)
    restored = prediction(await bench.run(rescored(first, job="job-2", force=True)))
    assert not restored.superseded and restored.sha256 != first.sha256
    bench.store.delete("b", "k.jpg")
    gone = prediction(await bench.run(rescored(first, job="job-3", force=True)))
    assert (gone.outcome, gone.superseded) == ("gone", False)


async def test_an_unreadable_object_is_deferred_and_at_last_a_dead_letter(bench: Bench) -> None:
    task = task_of(bench.store.put("b", "k.jpg", GREEN))
    topics = []
    for _ in range(3):
        bench.store.failures = [ObjectUnavailable("cut off")]
        completion = await bench.run(task)
        (output,) = completion.outputs
        assert isinstance(output.record, ImageTask) and output.record.attempt == task.attempt + 1
        assert output.record.defer_reason == "object_unavailable" and completion.claim == claim_of(task)
        topics.append(output.topic)
        task = output.record
    assert topics[0] == RETRIES_30S and topics[2] == RETRIES_1H
    bench.store.failures = [BucketUnavailable("denied")]
    completion = await bench.run(task)
    (output,) = completion.outputs
    assert isinstance(output.record, DeadLetter) and output.record.attempts == 4
    assert output.record.upload_id == task.upload_id and completion.dead_letters == 1
    assert bench.processor._bytes.free == bench.processor._bytes.total


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"etag": "e1\nx-evil: 1"}, "bad_etag"),
        ({"version_id": "v\r\n1"}, "bad_version_id"),
        ({"bucket": "evil.example/x?"}, "bad_bucket"),
    ],
)
async def test_a_task_whose_names_no_request_may_carry_is_a_dead_letter_at_once(
    bench: Bench, change: dict[str, Any], reason: str
) -> None:
    task = replace(task_of(bench.store.put("b", "k.jpg", GREEN)), **change)
    completion = await bench.run(task)
    (output,) = completion.outputs
    letter = output.record
    assert isinstance(letter, DeadLetter) and (letter.kind, letter.reason) == ("poison", reason)
    assert letter.upload_id == task.upload_id and letter.value is not None
    assert completion.claim == claim_of(task) and completion.dead_letters == 1
    assert bench.store.fetches == [] and bench.processor._bytes.free == bench.processor._bytes.total


@pytest.mark.parametrize("key", ["../other/k.jpg", "a\0b"])
async def test_an_upload_whose_key_is_never_asked_for_is_rejected(bench: Bench, key: str) -> None:
    task = replace(task_of(bench.store.put("b", "k.jpg", GREEN)), key=key)
    found = prediction(await bench.run(task))
    assert (found.outcome, found.reason) == ("rejected", "forbidden")


async def test_a_store_that_is_away_is_waited_for_and_nothing_is_given_up(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    bench.store.failures = [StoreUnavailable("down") for _ in range(20)]
    assert prediction(await bench.run(task_of(ref))).outcome == "scored"
    assert bench.status.said == ["waiting store"] * 20 + ["working"]
    assert max(bench.clock.slept) <= 30 and sum(bench.clock.slept) > 100, "capped, and patient"


async def test_a_partition_that_is_taken_away_does_not_break_the_processor(bench: Bench) -> None:
    ref = bench.store.put("b", "k.jpg", GREEN)
    assert prediction(await bench.run(task_of(ref), partition=99, commit=False)).outcome == "scored"


async def test_trusted_etags_spare_the_fetch_and_only_there(bench: Bench) -> None:
    settings = replace(bench.settings, s3=S3Settings(trust_etag_buckets=("b",)))
    bench.restart(settings=settings)
    await bench.run(task_of(bench.store.put("b", "one.jpg", GREEN)))
    bench.store.fetches.clear()
    found = prediction(await bench.run(task_of(bench.store.put("b", "two.jpg", GREEN), 2)))
    assert found.cached and bench.store.fetches == []
    bench.store.create_bucket("other")
    await bench.run(task_of(bench.store.put("other", "two.jpg", GREEN), 3))
    assert bench.store.fetches == [("other", "two.jpg")]


async def test_an_overwritten_object_teaches_no_trusted_etag(bench: Bench) -> None:
    bench.restart(settings=replace(bench.settings, s3=S3Settings(trust_etag_buckets=("b",))))
    before = bench.store.put("b", "k.jpg", GREEN)
    bench.store.put("b", "k.jpg", RED)
    await bench.run(task_of(before))
    found = prediction(await bench.run(task_of(bench.store.put("b", "new.jpg", GREEN), 2)))
    assert not found.cached and scores(found)["tint"].labels[1].value > 0.9


async def test_credits_bound_the_bytes_in_hand_and_unknown_sizes_count_as_the_limit(bench: Bench) -> None:
    settings = replace(bench.settings, engine=EngineSettings(max_bytes_in_flight=40 * 1024 * 1024))
    bench.restart(settings=settings)
    bench.store.gate = asyncio.Event()
    refs = [bench.store.put("b", f"{n}.jpg", jpeg((n, 0, 0))) for n in range(3)]
    tasks = [asyncio.create_task(bench.run(task_of(ref, n, size_bytes=None))) for n, ref in enumerate(refs)]
    await eventually(lambda: bench.processor._bytes.waiting == 2)
    assert len(bench.store.fetches) == 1, "the limit is taken for each until its length is known"
    bench.store.gate.set()
    await asyncio.gather(*tasks)
    assert bench.processor._bytes.free == bench.processor._bytes.total
    assert [key for _, key in bench.store.fetches] == ["0.jpg", "1.jpg", "2.jpg"], "in source order"
