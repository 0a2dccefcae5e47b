"""The lake in tests: an installation of its own (prefix, namespace) on the run's Kafka Connect, records and rows."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.domain.lake import LakeTable, table_named
from app.errors import StartupRefused
from app.lake.connect.client import ConnectClient
from app.lake.connect.config import connector_config, connector_name
from app.lake.iceberg.catalog import create_tables, load_table, open_catalog
from app.settings import Settings, load_settings
from app.stack.local import LocalStack
from app.systems.kafka.admin import create_topics
from app.systems.registry.avro import Codec
from app.topics import LAKE_TOPICS
from schemas.records import ImagePrediction
from tests.support.schema_examples import newest_example
from tests.support.stack import TestNames, skip_without_services
from tests.support.verbs import clean_environment, run_verb_together

CODEC = Codec()
# Short intervals make a test short; the timeout must still exceed the worker's flush of 5 s.
COMMIT_SECONDS = 3.0
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class LakeInstallation:
    """One test's lake: its settings name topics, tables and connectors that no other test has."""

    stack: LocalStack
    settings: Settings
    variables: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a verb of this installation."""
        return clean_environment(self._variables)

    @property
    def _variables(self) -> dict[str, str]:
        return {"SIGHTLINE_STACK_VAR_DIR": str(self.stack.options.var_dir / "nobody"), **self.variables}

    def topic(self, name: str) -> str:
        """Return a topic's full name."""
        return self.settings.kafka.prefix + name

    async def verb(self, *arguments: str) -> tuple[int, str]:
        """Run a verb of the lake to its end; return its exit code and what it printed, both streams."""
        return await run_verb_together(self._variables, "lake", *arguments)

    async def apply(self, *tables: str, **changes: str) -> None:
        """Give Connect the connectors of these tables, with some settings changed where a test needs it."""
        async with ConnectClient(self.settings.lake.connect_url) as connect:
            for name in tables:
                table = table_named(name)
                await connect.apply(
                    connector_name(self.settings, table), {**connector_config(self.settings, table), **changes}
                )

    async def remove(self) -> None:
        """Remove this test's connectors from Connect."""
        async with ConnectClient(self.settings.lake.connect_url) as connect:
            for name in await connect.names():
                if name.startswith(self.settings.kafka.prefix):
                    await connect.delete(name)

    async def publish(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Publish keys and values in committed transactions, with an aborted one between them: offsets have holes."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka.bootstrap, transactional_id=f"{self.settings.kafka.prefix}test"
        )
        await producer.start()
        try:
            for start in range(0, len(records), _BATCH):
                async with producer.transaction():
                    for key, value in records[start : start + _BATCH]:
                        await producer.send(self.topic(topic), value, key=key)
                await producer.begin_transaction()
                await producer.send_and_wait(self.topic(topic), records[start][1], key=records[start][0])
                await producer.abort_transaction()
        finally:
            await producer.stop()

    async def published(self, topic: str) -> set[tuple[int, int]]:
        """Return partition and offset of every committed record."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka.bootstrap, isolation_level="read_committed", enable_auto_commit=False
        )
        await consumer.start()
        try:
            name = self.topic(topic)
            parts = [TopicPartition(name, number) for number in range(self.stack.options.partitions)]
            consumer.assign(parts)
            await consumer.seek_to_beginning(*parts)
            ends = await consumer.end_offsets(parts)
            found: set[tuple[int, int]] = set()
            while any([await consumer.position(part) < ends[part] for part in parts]):
                batches = await consumer.getmany(timeout_ms=500)
                found.update((part.partition, message.offset) for part, all_ in batches.items() for message in all_)
            return found
        finally:
            await consumer.stop()

    async def rows(self, name: str) -> Counter[tuple[int, int]]:
        """Return how often each partition and offset is a row of the table at this moment."""
        return await asyncio.to_thread(_rows, self.settings, table_named(name))


def _rows(settings: Settings, row: LakeTable) -> Counter[tuple[int, int]]:
    table = load_table(open_catalog(settings), settings, row)
    assert table is not None, f"no table {row.name}"
    arrow = table.scan(selected_fields=("kafka_partition", "kafka_offset")).to_arrow()
    return Counter(zip(arrow["kafka_partition"].to_pylist(), arrow["kafka_offset"].to_pylist(), strict=True))


def made_predictions(count: int, start: int = 0, **changes: Any) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of `count` different outcomes."""
    example = newest_example("ImagePrediction")
    assert isinstance(example, ImagePrediction)
    for number in range(start, start + count):
        key = f"made/{number}.jpg"
        record = dataclasses.replace(example, upload_id=f"{number:032x}", key=key, event_key=None, **changes)
        yield f"{record.bucket}/{key}".encode(), CODEC.encode(record)


def encoded_with(text: str, schema_id: int, value: bytes, **more: Any) -> bytes:
    """Return a record of ours as a newer worker would write it: by the schema `text`, with fields that we lack."""
    schema = fastavro.parse_schema(json.loads(text))
    body = {**dataclasses.asdict(CODEC.decode(value)), **more}
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, body)
    return bytes(1) + schema_id.to_bytes(4, "big") + buffer.getvalue()


@pytest_asyncio.fixture
async def lake(stack: LocalStack, names: TestNames) -> AsyncIterator[LakeInstallation]:
    """An installation of its own with empty tables; Connect runs without any of its connectors."""
    await stack.revive()
    if not stack.has_lake:
        try:
            await stack.add_connect()
        except StartupRefused as refusal:
            skip_without_services(str(refusal))
    variables = {
        **stack.environment,
        "SIGHTLINE_KAFKA_PREFIX": names.prefix,
        "SIGHTLINE_LAKE_NAMESPACE": names.bucket.replace("-", "_"),
        "SIGHTLINE_LAKE_COMMIT_SECONDS": f"{COMMIT_SECONDS:g}",
        "SIGHTLINE_LAKE_COMMIT_TIMEOUT_SECONDS": "8",
    }
    settings = load_settings(variables)
    await stack.create_topics(names.prefix)
    await create_topics(stack.kafka, LAKE_TOPICS, partitions=stack.options.partitions, prefix=names.prefix)
    await asyncio.to_thread(lambda: create_tables(open_catalog(settings), settings))
    installation = LakeInstallation(stack, settings, variables)
    yield installation
    await stack.revive()
    await installation.remove()
