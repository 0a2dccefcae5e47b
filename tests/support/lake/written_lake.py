"""A lake for tests: topics written in transactions, and tables filled with the rows that Kafka Connect would make.

`StagedLake` plays the sink: it appends rows and says in the snapshot's summary what the sink says there.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from app.domain.lake import LakeTable, table_named
from app.lake.iceberg.catalog import create_tables, load_table, open_catalog
from app.lake.iceberg.commit import replace_files
from app.lake.iceberg.erasures import Erasures
from app.lake.iceberg.read import TableReader, moment
from app.lake.iceberg.rows import rows_of
from app.lake.iceberg.write import write_rows
from app.lake.upkeep.compare import Comparer
from app.lake.upkeep.sums import TableSums
from app.lake.upkeep.verify import Limits, verify
from app.ports.records import SourceRecord
from app.settings import KafkaSettings, LakeSettings, S3Settings, Secret, Settings
from app.stack.local import LocalStack
from app.systems.kafka.groups import sink_offsets
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.registry.avro import Codec
from app.systems.s3.admin import create_bucket
from app.systems.s3.files import LakeFile, LakeStore
from schemas.records import ImagePrediction, Record
from tests.support.manual_clock import ManualClock
from tests.support.schema_examples import newest_example

PREDICTIONS_TABLE = table_named("predictions")
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def lake_settings(stack: LocalStack, prefix: str, bucket: str, folder: Path, **changes: Any) -> Settings:
    """Return settings of a lake in `bucket`, with a catalog of its own in `folder`."""
    lake = LakeSettings(
        catalog="sqlite",
        catalog_uri=str(folder / "catalog.db"),
        warehouse=f"s3://{bucket}/warehouse",
        archive=f"s3://{bucket}/archive",
        **changes,
    )
    access = stack.s3
    s3 = S3Settings(
        endpoint=access.endpoint,
        region=access.region,
        access_key=access.access_key,
        secret_key=Secret(access.secret_key),
    )
    return Settings(kafka=KafkaSettings(bootstrap=stack.kafka, prefix=prefix), s3=s3, lake=lake)


class StagedLake:
    """Topics, tables and a sink that a test moves by hand. Use as `async with`."""

    def __init__(self, settings: Settings, stack: LocalStack) -> None:
        self.settings, self._stack = settings, stack
        self.codec = Codec()
        # Snapshots and objects have the time of the catalog and the store, which no test can move.
        self.clock = ManualClock(int(time.time() * 1000))
        self.catalog: Catalog = open_catalog(settings)
        self.scanner = KafkaTopicLog(settings.kafka)
        self.store = LakeStore(settings.s3)
        self._commits = 0
        self.next_offset = 0

    async def furnish(self) -> None:
        """Make bucket and tables; enough for a test that needs no topic."""
        bucket = self.settings.lake.warehouse.removeprefix("s3://").split("/")[0]
        await create_bucket(self._stack.s3, bucket)
        await asyncio.to_thread(create_tables, self.catalog, self.settings)

    async def __aenter__(self) -> StagedLake:
        await self.furnish()
        await self.scanner.__aenter__()
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.store.__aexit__(None, None, None)
        await self.scanner.__aexit__(None, None, None)

    def table(self, row: LakeTable = PREDICTIONS_TABLE) -> Table:
        """Return the table as it is."""
        found = load_table(self.catalog, self.settings, row)
        assert found is not None
        return found

    def reader(self, row: LakeTable = PREDICTIONS_TABLE) -> TableReader:
        """Return a reader that has the table open."""
        reader = TableReader(self.catalog, self.settings, row)
        assert reader.open()
        return reader

    async def publish(
        self,
        records: Sequence[Record],
        row: LakeTable = PREDICTIONS_TABLE,
        *,
        at_ms: int | None = None,
        abort: bool = False,
    ) -> None:
        """Write records to a topic in one transaction, or in one that is aborted: a hole in the offsets.

        They were published an hour ago unless `at_ms` says else: by then the sink should have them.
        """
        published_ms = self.clock.now_ms() - HOUR_MS if at_ms is None else at_ms
        producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka.bootstrap, transactional_id=self.settings.kafka.prefix + "lake"
        )
        await producer.start()
        try:
            await producer.begin_transaction()
            for number, record in enumerate(records):
                key = str(number).encode()
                await producer.send(
                    self.settings.kafka.prefix + row.topic, self.codec.encode(record), key, timestamp_ms=published_ms
                )
            await producer.flush()
            await (producer.abort_transaction() if abort else producer.commit_transaction())
        finally:
            await producer.stop()

    async def records(self, row: LakeTable = PREDICTIONS_TABLE) -> list[SourceRecord]:
        """Return what is on a topic."""
        async with aclosing(self.scanner.scan(row.topic)) as records:
            return [record async for record in records]

    def sink(
        self,
        records: Sequence[SourceRecord],
        row: LakeTable = PREDICTIONS_TABLE,
        *,
        complete: bool = True,
    ) -> None:
        """Append rows for records as the sink does: a commit of its own, with its words in the summary.

        `complete`: the sink says that it has everything up to this moment.
        """
        self._commits += 1
        valid_through_ms = self.clock.now_ms() if complete else None
        table = self.table(row)
        rows = rows_of(table.schema(), records, self.codec, self.settings.kafka.prefix)
        with table.transaction() as transaction:
            words = sink_words(row, self._commits, valid_through_ms)
            with transaction.update_snapshot(snapshot_properties=words).fast_append() as append:
                for file in write_rows(table, rows):
                    append.append_data_file(file)

    def empty(self, row: LakeTable = PREDICTIONS_TABLE) -> None:
        """Lose all rows of a table, as nobody should."""
        table = self.table(row)
        replace_files(table, [task.file for task in self.reader(row).tasks()], [], same_rows=False)

    async def fill(
        self, records: Sequence[Record], row: LakeTable = PREDICTIONS_TABLE, *, at_ms: int | None = None
    ) -> None:
        """Publish records, and let the sink take everything that is new on the topic."""
        before = await self.scanner.ends(row.topic)
        await self.publish(records, row, at_ms=at_ms)
        await self.take(row, since=before)

    async def take(self, row: LakeTable = PREDICTIONS_TABLE, *, since: dict[int, int] | None = None) -> None:
        """Let the sink take what is on the topic, from `since` on, and commit its offsets."""
        new = [record for record in await self.records(row) if record.offset >= (since or {}).get(record.partition, 0)]
        await asyncio.to_thread(self.sink, new, row)
        await self.commit(row)

    async def commit(self, row: LakeTable = PREDICTIONS_TABLE, offsets: dict[int, int] | None = None) -> None:
        """Commit offsets for the connector's group; the ends of the topic unless given."""
        ends = await self.scanner.ends(row.topic) if offsets is None else offsets
        prefix = self.settings.kafka.prefix
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka.bootstrap,
            group_id=f"connect-{prefix}{row.connector}",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            parts = {TopicPartition(prefix + row.topic, number): at for number, at in ends.items()}
            consumer.assign(list(parts))
            await consumer.commit(parts)
        finally:
            await consumer.stop()

    async def forget_before(self, row: LakeTable, offsets: dict[int, int]) -> None:
        """Let retention take what lies before these offsets."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka.bootstrap)
        await admin.start()
        try:
            parts = {
                TopicPartition(self.settings.kafka.prefix + row.topic, number): at for number, at in offsets.items()
            }
            await admin.delete_records({part: RecordsToDelete(before_offset=at) for part, at in parts.items()})
        finally:
            await admin.close()

    async def verify(self, row: LakeTable = PREDICTIONS_TABLE, *, wait_seconds: float = 0.0) -> TableSums:
        """Return what `lake verify` counts."""
        reader = TableReader(self.catalog, self.settings, row)
        return await verify(
            self.comparer(reader), reader, self.store, self.clock, self.limits, wait_seconds=wait_seconds
        )

    def comparer(self, reader: TableReader) -> Comparer:
        """Return what compares a table with its topic."""
        committed = partial(sink_offsets, self.settings.kafka)
        return Comparer(self.scanner, committed, reader, Erasures(self.catalog, self.settings))

    @property
    def limits(self) -> Limits:
        """The limits of the settings."""
        return Limits.of(self.settings.lake)

    def examples(self, row: LakeTable, count: int) -> list[Record]:
        """Return records of a table, all alike."""
        return [newest_example(row.record)] * count

    async def files_of(self, row: LakeTable = PREDICTIONS_TABLE) -> set[str]:
        """Return the paths of the data files that lie in the store, whether the table refers to them or not."""
        async with LakeStore(self.settings.s3) as store:
            return {file.path async for file in store.list(self.table(row).location() + "/data/")}

    async def files(self, row: LakeTable = PREDICTIONS_TABLE) -> list[LakeFile]:
        """Return the objects below a table's folder."""
        return [file async for file in self.store.list(self.table(row).location() + "/")]

    def rows(self, row: LakeTable = PREDICTIONS_TABLE) -> list[dict[str, Any]]:
        """Return the rows of a table, by coordinates."""
        found: list[dict[str, Any]] = self.table(row).scan().to_arrow().to_pylist()
        return sorted(found, key=lambda each: (each["kafka_partition"], each["kafka_offset"]))


def sink_words(row: LakeTable, commit: int, valid_through_ms: int | None) -> dict[str, str]:
    """Return what the sink writes into the summary of its snapshot."""
    words = {
        f"kafka.connect.offsets.{row.control_topic}.connect-{row.connector}": json.dumps({"0": commit * 10}),
        "kafka.connect.commit-id": f"00000000-0000-0000-0000-{commit:012d}",
        "kafka.connect.task-id": f"{row.connector}-0",
    }
    if valid_through_ms is not None:
        words["kafka.connect.valid-through-ts"] = moment(valid_through_ms)
    return words


def predictions(
    count: int, start: int = 0, event_time_ms: int | None = 1_795_000_000_000, **changes: Any
) -> list[Record]:
    """Return predictions of as many images; without an event time each has another, in no order."""
    example = newest_example("ImagePrediction")
    assert isinstance(example, ImagePrediction)
    return [
        replace(
            example,
            upload_id=f"{number:064x}",
            key=f"images/{number}.jpg",
            event_time_ms=(number * 7919) % 10_007 if event_time_ms is None else event_time_ms,
            **changes,
        )
        for number in range(start, start + count)
    ]


def made_records(
    lake: StagedLake,
    records: Sequence[Record],
    row: LakeTable = PREDICTIONS_TABLE,
    *,
    start: int | None = None,
    at_ms: int | None = None,
) -> list[SourceRecord]:
    """Return records as they would be read from a topic, without one; offsets go on from call to call."""
    first = lake.next_offset if start is None else start
    lake.next_offset = max(lake.next_offset, first + len(records))
    published_ms = lake.clock.now_ms() if at_ms is None else at_ms
    return [
        SourceRecord(row.topic, number % 3, first + number, published_ms, None, lake.codec.encode(record))
        for number, record in enumerate(records)
    ]
