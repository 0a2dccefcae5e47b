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
from app.ports.publishing import Producer, Transactions
from app.ports.records import Output, SourceRecord
from app.ports.topics import ConsumerGroups, TopicLog
from app.settings import KafkaSettings, S3Settings, Settings
from app.systems.kafka.groups import KafkaGroups
from app.systems.kafka.producer import KafkaProducer, KafkaTransactionalProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.registry.avro import Codec
from app.topics import PREDICTIONS, UPLOADS
from schemas.records import ImagePrediction, ImageTask, Record
from tests.support.event_messages import message, record
from tests.support.manual_clock import ManualClock
from tests.support.memory.topics import MemoryGroups, MemoryProducer, MemoryTopicLog, memory_transactions
from tests.support.outcomes import prediction

NOW_MS = 1_795_430_000_000


# Something that is filtered, for the tests of what is.
WITHOUT_LAKE = Settings(s3=S3Settings(excluded_prefixes=("lake/",)))


class StagedPipeline:
    """Publishes to topics in memory and commits the agents' offsets."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.codec = Codec()
        self.clock = clock or ManualClock(NOW_MS)
        self.store: ObjectStore | None = None
        memory = MemoryTopicLog(self.clock)
        self._groups = MemoryGroups(memory)
        self.log: TopicLog = memory
        self.groups: ConsumerGroups = self._groups
        self.producer: Producer = MemoryProducer(memory)
        self.transactions: Transactions = memory_transactions(memory)
        self._identify = IdentifyProcessor(UploadFilter.of(WITHOUT_LAKE), self.clock)
        self._identified: dict[int, int] = {}

    async def notify(self, *messages: bytes) -> None:
        await self.producer.send_batch([(UPLOADS, b"%d" % number, value) for number, value in enumerate(messages)])

    async def publish(self, *outputs: Output) -> None:
        await self.producer.send_batch(
            [(output.topic, output.key, self.codec.encode(output.record)) for output in outputs]
        )

    async def identify(self) -> list[Record]:
        """Do what identify does with everything new on s3.uploads, and commit; return what it published."""
        outputs: list[Output] = []
        for source in await self.records(UPLOADS):
            if source.offset >= self._identified.get(source.partition, 0):
                outputs += (await self._identify.process(source)).outputs
                self._identified[source.partition] = source.offset + 1
        await self.publish(*outputs)
        await self.commit("identify", UPLOADS)
        return [output.record for output in outputs]

    async def score(self, *tasks: ImageTask, **changes: Any) -> None:
        """Publish an outcome for each task."""
        await self.publish(*(outcome_of(task, **changes) for task in tasks))

    async def commit(self, agent: str, *topics: str) -> None:
        """Commit the ends of `topics` for the group of `agent`."""
        for topic in topics:
            ends = await self.log.ends(topic)
            await self.commit_at(agent, topic, ends)

    async def commit_at(self, agent: str, topic: str, offsets: dict[int, int]) -> None:
        self._groups.commit(f"sightline.{agent}", topic, offsets)

    async def records(self, topic: str) -> list[SourceRecord]:
        async with aclosing(self.log.scan(topic)) as records:
            return [record async for record in records]

    async def decoded(self, topic: str) -> list[Record]:
        return [self.codec.decode(record.value) for record in await self.records(topic)]

    def reader(self, scope: Scope | None = None) -> LedgerReader:
        return LedgerReader(
            self.log,
            self.groups,
            self.codec,
            self.clock,
            UploadFilter.of(WITHOUT_LAKE),
            scope or Scope(),
            self.store,
        )

    async def ledger(self, scope: Scope | None = None) -> Ledger:
        return await self.reader(scope).read()


class KafkaPipeline(StagedPipeline):
    """A staged pipeline on the topics of a broker. Use as `async with`."""

    def __init__(self, kafka: KafkaSettings) -> None:
        super().__init__()
        self.kafka = kafka
        self._kafka_log = KafkaTopicLog(kafka)
        self.log = self._kafka_log
        self.groups = KafkaGroups(kafka)
        self.producer = KafkaProducer(kafka)
        self.transactions = partial(KafkaTransactionalProducer, kafka)

    async def __aenter__(self) -> Self:
        await self._kafka_log.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._kafka_log.__aexit__(None, None, None)
        await self.producer.close()

    async def commit_at(self, agent: str, topic: str, offsets: dict[int, int]) -> None:
        await commit_offsets(self.kafka, f"sightline.{agent}", topic, offsets)


async def commit_offsets(kafka: KafkaSettings, group: str, topic: str, offsets: dict[int, int]) -> None:
    """Commit offsets for a group on a broker."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, group_id=kafka.prefix + group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        parts = {TopicPartition(kafka.prefix + topic, number): at for number, at in offsets.items()}
        consumer.assign(list(parts))
        await consumer.commit(parts)
    finally:
        await consumer.stop()


def upload(number: int, **changes: Any) -> bytes:
    thing = {"key": f"in/{number:03d}.jpg", "eTag": f"{number:032x}", "sequencer": f"00{number:04X}"}
    return message(record(object=thing | changes))


def sums(ledger: Ledger) -> tuple[int, int, int, int, int, int]:
    return (
        ledger.uploads,
        ledger.outcomes,
        ledger.open_dead_letters,
        ledger.lost,
        ledger.duplicated,
        ledger.in_flight,
    )


async def identified(pipeline: StagedPipeline, *messages: bytes) -> list[ImageTask]:
    await pipeline.notify(*messages)
    tasks = [made for made in await pipeline.identify() if isinstance(made, ImageTask)]
    return sorted(tasks, key=lambda task: task.key)


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
