"""A pipeline without workers, for tests of ledger, dead letters and reconcile: what is on the topics is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.domain import identity
from app.domain.filters import UploadFilter
from app.ledger.ledger import LedgerReader, Scope
from app.ledger.sums import Ledger
from app.pipeline.identify import IdentifyProcessor
from app.ports.objects import ListedObject, ObjectStore
from app.ports.records import Output, SourceRecord
from app.settings import KafkaSettings, S3Settings, Settings
from app.systems.kafka.client import KafkaProducer, TopicScanner, group_offsets
from app.systems.registry.avro import Codec
from app.topics import PREDICTIONS, UPLOADS
from schemas.records import ImagePrediction, ImageTask, Record
from tests.support.manual_clock import ManualClock
from tests.support.outcomes import prediction

NOW_MS = 1_795_430_000_000


# Something that is filtered, for the tests of what is.
WITHOUT_LAKE = Settings(s3=S3Settings(excluded_prefixes=("lake/",)))


class StagedPipeline:
    """Publishes to the topics of one test and commits the agents' offsets as told."""

    def __init__(self, kafka: KafkaSettings, store: ObjectStore | None = None) -> None:
        self.kafka = kafka
        self.store = store
        self.codec = Codec()
        self.clock = ManualClock(NOW_MS)
        self.scanner = TopicScanner(kafka)
        self.producer = KafkaProducer(kafka)
        self._identify = IdentifyProcessor(UploadFilter.of(WITHOUT_LAKE), self.clock)
        self._identified: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        await self.scanner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.scanner.__aexit__(None, None, None)
        await self.producer.close()

    async def notify(self, *messages: bytes) -> None:
        await self.producer.send_batch([(UPLOADS, b"%d" % number, value) for number, value in enumerate(messages)])

    async def publish(self, *outputs: Output) -> None:
        await self.producer.send_batch(
            [(output.topic, output.key, self.codec.encode(output.record)) for output in outputs]
        )

    async def identify(self) -> list[Record]:
        """Do what identify does with everything new on s3.uploads, and commit; return what it published."""
        outputs: list[Output] = []
        for record in await self.records(UPLOADS):
            if record.offset >= self._identified.get(record.partition, 0):
                outputs += (await self._identify.process(record)).outputs
                self._identified[record.partition] = record.offset + 1
        await self.publish(*outputs)
        await self.commit("identify", UPLOADS)
        return [output.record for output in outputs]

    async def score(self, *tasks: ImageTask, **changes: Any) -> None:
        """Publish an outcome for each task."""
        await self.publish(*(outcome_of(task, **changes) for task in tasks))

    async def commit(self, agent: str, *topics: str) -> None:
        """Commit the ends of `topics` for the group of `agent`."""
        for topic in topics:
            ends = await self.scanner.ends(topic)
            await self.commit_at(agent, topic, ends)

    async def commit_at(self, agent: str, topic: str, offsets: dict[int, int]) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap,
            group_id=f"{self.kafka.prefix}sightline.{agent}",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            parts = {TopicPartition(self.kafka.prefix + topic, number): at for number, at in offsets.items()}
            consumer.assign(list(parts))
            await consumer.commit(parts)
        finally:
            await consumer.stop()

    async def records(self, topic: str) -> list[SourceRecord]:
        async with aclosing(self.scanner.scan(topic)) as records:
            return [record async for record in records]

    async def decoded(self, topic: str) -> list[Record]:
        return [self.codec.decode(record.value) for record in await self.records(topic)]

    def reader(self, scope: Scope | None = None) -> LedgerReader:
        return LedgerReader(
            self.scanner,
            partial(group_offsets, self.kafka),
            self.codec,
            self.clock,
            UploadFilter.of(WITHOUT_LAKE),
            scope or Scope(),
            self.store,
        )

    async def ledger(self, scope: Scope | None = None) -> Ledger:
        return await self.reader(scope).read()


def outcome_of(task: ImageTask, **changes: Any) -> Output:
    """Return the outcome of a task as score publishes it."""
    made = prediction(bucket=task.bucket, key=task.key, etag=task.etag, upload_id=task.upload_id)
    record: ImagePrediction = replace(
        made,
        event_time_ms=task.event_time_ms,
        attempt=task.attempt,
        job_id=task.job_id,
        dialect=task.dialect,
        **changes,
    )
    return Output(PREDICTIONS, identity.image_key(task.bucket, task.key), record)


class ListedStore:
    """An ObjectStore that only lists."""

    def __init__(self, objects: Sequence[ListedObject]) -> None:
        self.objects = list(objects)

    async def list(self, bucket: str, prefix: str) -> Any:
        for listed in sorted(self.objects, key=lambda found: found.key):
            if listed.bucket == bucket and listed.key.startswith(prefix):
                yield listed

    async def fetch(self, ref: Any, *, max_bytes: int, alternate_key: str | None = None) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        pass
