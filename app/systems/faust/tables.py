"""The score agent's tables: Faust tables on RocksDB with bounded memory, age and recovery time.

Faust assigns partitions, opens the files and replays what is missing. Reads and writes go straight to the partition's
file: a write is awaited in the changelog first and then put together with its offset.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import faust
import rocksdict
from faust.stores import STORES
from faust.stores.rocksdb import RocksDBOptions, Store

from app.errors import BrokerUnavailable
from app.settings import KafkaSettings, TableSettings
from app.topics import TABLES

logger = logging.getLogger(__name__)
_SCHEME: Final = "sightlinerocks"
_DAY_SECONDS: Final = 86_400
# Below this Faust's own replay, some 10 thousand records a second, is quick enough.
_COLD_RECORDS: Final = 20_000
_LOAD_BATCH: Final = 5_000
_LOAD_TIMEOUT_SECONDS: Final = 60.0


class SharedMemory:
    """One block cache and one bound on memtables for all partitions of all tables of a worker."""

    def __init__(self, settings: TableSettings, files: int) -> None:
        self.settings = settings
        self.cache = rocksdict.Cache(settings.block_cache_bytes * files)
        self.memtables = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(
            settings.write_buffer_bytes * files, False, self.cache
        )


class BoundedOptions(RocksDBOptions):
    """Explicit RocksDB options. A ttl is always set, and never taken away: values would change their form."""

    def as_options(self) -> Any:
        """Return the options of one partition's file."""
        memory: SharedMemory = self.extra_options["memory"]
        blocks = rocksdict.BlockBasedOptions()
        blocks.set_block_cache(memory.cache)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_bloom_filter(10, False)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_max_open_files(memory.settings.max_open_files)
        options.set_write_buffer_size(memory.settings.write_buffer_bytes)
        options.set_max_write_buffer_number(2)
        options.set_write_buffer_manager(memory.memtables)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_block_based_table_factory(blocks)
        return options


class BoundedStore(Store):
    """Faust's RocksDB store with BoundedOptions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rocksdb_options = BoundedOptions(**self.options, use_rocksdict=True)

    def owns(self, partition: int) -> bool:
        """Whether this worker holds the partition."""
        return partition in self._dbs

    def file(self, partition: int) -> Any:
        """Return the open file of an owned partition; never opens one that was revoked."""
        return self._dbs[partition]


class Changelog(Protocol):
    """Where table writes become durable."""

    async def append(self, topic: str, partition: int, entries: Mapping[bytes, bytes]) -> int:
        """Write `entries` and return the last offset, once all are durable."""
        ...


class FaustTables:
    """See app.ports.processing.Tables and app.streaming.ports.TableStore."""

    def __init__(self, app: faust.App, settings: TableSettings, partitions: int, changelog: Changelog) -> None:
        STORES.aliases[_SCHEME] = f"{__name__}:BoundedStore"
        memory = SharedMemory(settings, len(TABLES) * partitions)
        self._changelog = changelog
        self._ages = {table.name: int(table.days(settings) * _DAY_SECONDS) for table in TABLES}
        self._tables = {
            name: app.Table(
                name,
                store=f"{_SCHEME}:{name}",
                partitions=partitions,
                key_type=bytes,
                value_type=bytes,
                options={"ttl": age, "memory": memory},
            )
            for name, age in self._ages.items()
        }
        self._topics = {name: table.changelog_topic.get_topic_name() for name, table in self._tables.items()}
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}
        self._writing: dict[tuple[str, int], asyncio.Lock] = {}

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        """See app.ports.processing.Tables."""
        value: bytes | None = self._tables[table].data.file(partition).get(key)
        return value

    async def put(self, table: str, partition: int, entries: Mapping[bytes, bytes]) -> None:
        """See TableStore."""
        # The offset that is put with the entries must not overtake entries that are still on their way.
        async with self._writing.setdefault((table, partition), asyncio.Lock()):
            offset = await self._changelog.append(self._topics[table], partition, entries)
            store = self._tables[table].data
            if not store.owns(partition):
                return
            _write(store, partition, entries, offset)

    @asynccontextmanager
    async def exclusive(self, table: str, partition: int) -> AsyncIterator[None]:
        """See TableStore."""
        async with self._locks.setdefault((table, partition), asyncio.Lock()):
            yield

    def table_of(self, changelog_topic: str) -> str:
        """Return the table that a changelog belongs to; KeyError for another topic."""
        return next(name for name, topic in self._topics.items() if topic == changelog_topic)

    def store_of(self, table: str) -> BoundedStore:
        """Return the store of a table."""
        store: BoundedStore = self._tables[table].data
        return store

    def age_seconds(self, table: str) -> int:
        """Return for how long entries of `table` are kept."""
        return self._ages[table]


def _write(store: BoundedStore, partition: int, entries: Mapping[bytes, bytes | None], offset: int) -> None:
    batch = rocksdict.WriteBatch(raw_mode=True)
    for key, value in entries.items():
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    batch.put(store.offset_key, str(offset).encode())
    store.file(partition).write(batch)


class BulkLoader:
    """Loads cold table partitions with a plain consumer, many times faster than Faust's event path."""

    def __init__(self, tables: FaustTables, settings: KafkaSettings) -> None:
        self._tables = tables
        self._settings = settings
        self.loaded_records = 0

    async def __call__(self, changelogs: frozenset[Any]) -> Mapping[Any, int]:
        """Load those of `changelogs` (topic, partition) that lie far behind; return the offsets reached.

        Cancellable: what was loaded stays. Raises BrokerUnavailable.
        """
        from aiokafka import AIOKafkaConsumer, TopicPartition
        from aiokafka.errors import KafkaError

        sources = {TopicPartition(tp.topic, tp.partition): tp for tp in changelogs}
        if not sources:
            return {}
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=4 << 20
        )
        try:
            await consumer.start()
            ends = await consumer.end_offsets(list(sources))
            starts = await consumer.beginning_offsets(list(sources))
            cold = {}
            for tp in sources:
                store = self._tables.store_of(self._tables.table_of(tp.topic))
                persisted = store.persisted_offset(sources[tp]) if store.owns(tp.partition) else None
                begin = max(starts[tp], 0 if persisted is None else persisted + 1)
                if ends[tp] - begin > _COLD_RECORDS:
                    cold[tp] = begin
            if not cold:
                return {}
            return {sources[tp]: offset for tp, offset in (await self._load(consumer, cold, ends)).items()}
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(f"cannot load the tables: {error}") from error
        finally:
            await consumer.stop()

    async def _load(self, consumer: Any, cold: dict[Any, int], ends: Mapping[Any, int]) -> dict[Any, int]:
        begun = time.monotonic()
        consumer.assign(list(cold))
        for tp, begin in cold.items():
            consumer.seek(tp, begin)
        reached: dict[Any, int] = {}
        open_ends = dict.fromkeys(cold, 0)
        before = self.loaded_records
        while open_ends:
            async with asyncio.timeout(_LOAD_TIMEOUT_SECONDS):
                fetched = await consumer.getmany(*open_ends, timeout_ms=1000, max_records=_LOAD_BATCH)
                positions = {tp: await consumer.position(tp) for tp in open_ends}
            for tp, records in fetched.items():
                table = self._tables.table_of(tp.topic)
                oldest_ms = (time.time() - self._tables.age_seconds(table)) * 1000
                fresh = {record.key: record.value for record in records if record.timestamp >= oldest_ms}
                _write(self._tables.store_of(table), tp.partition, fresh, records[-1].offset)
                reached[tp] = records[-1].offset
                self.loaded_records += len(records)
            for tp, position in positions.items():
                if position >= ends[tp]:
                    del open_ends[tp]
                    consumer.pause(tp)
        seconds = time.monotonic() - begun
        count = self.loaded_records - before
        logger.info(
            "tables: %d changelog records loaded in %.1f s (%.0f/s)", count, seconds, count / max(seconds, 1e-3)
        )
        return reached
