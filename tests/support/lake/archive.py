"""The archive agent as a process, and what its archive holds beside what its topic held."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from pathlib import Path

from app.archive.partitions import ObjectArchive
from app.archive.reader import ArchiveReader
from app.archive.upkeep import ArchivedPartition, archived
from app.domain.places import parse_folder
from app.ports.records import SourceRecord
from app.settings import Settings, load_settings
from app.stack.local import LocalStack
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.s3.admin import StoreAccess, create_bucket
from app.systems.s3.write import S3WriteStore
from app.topics import PREDICTIONS
from tests.support.eventually import eventually
from tests.support.stack import TestNames
from tests.support.streaming.driver import Fleet, WorkerProcess, feed
from tests.support.whole_pipeline import VerbProcess

Content = tuple[int, bytes | None, bytes | None]


class ArchiveRig:
    """Workers of one archive, in a bucket of this test's own."""

    def __init__(self, fleet: Fleet, access: StoreAccess, names: TestNames, changes: Mapping[str, str]) -> None:
        self.fleet = fleet
        self.environment = {
            **fleet.worker("archive").environment,
            "SIGHTLINE_S3_ENDPOINT": access.endpoint,
            "SIGHTLINE_S3_ACCESS_KEY": access.access_key,
            "SIGHTLINE_S3_SECRET_KEY": access.secret_key,
            "SIGHTLINE_S3_REGION": access.region,
            "SIGHTLINE_LAKE_ARCHIVE": f"s3://{names.bucket}/archive",
            "SIGHTLINE_STACK_VAR_DIR": str(fleet.folder / "var"),
            **changes,
        }
        self.settings: Settings = load_settings(self.environment)
        self.topic = names.topic(PREDICTIONS)

    def worker(self, number: int = 0, **settings: str) -> WorkerProcess:
        """Return the command line's own worker, not started; `settings` are SIGHTLINE_* names without their prefix."""
        log = self.fleet.folder / f"archive-{number}.log"
        changes = {f"SIGHTLINE_{name}": value for name, value in settings.items()}
        return _Worker("worker", {**self.environment, **changes}, log)

    async def feed(self, values: Iterable[str], *, per_second: float | None = None) -> int:
        """Publish `values` on the topic of predictions."""
        return await feed(self.fleet.bootstrap, self.topic, values, per_second=per_second)

    async def verb(self, *arguments: str) -> tuple[int, str]:
        """Run `./sightline archive ARGUMENTS…`; return exit code and output."""
        return await asyncio.to_thread(self._run, arguments)

    def _run(self, arguments: tuple[str, ...]) -> tuple[int, str]:
        log = self.fleet.folder / "verb.log"
        log.unlink(missing_ok=True)
        verb = VerbProcess("archive", self.environment, log, arguments)
        verb.start()
        assert verb.process is not None
        return verb.process.wait(120), verb.log()

    async def on_topic(self) -> dict[int, list[Content]]:
        """Return what a read-committed reader finds on the topic: offset, key and value, by partition."""
        async with KafkaTopicLog(self.settings.kafka) as scanner, aclosing(scanner.scan(PREDICTIONS)) as records:
            return _by_partition([record async for record in records])

    async def in_archive(self) -> dict[int, list[Content]]:
        """Return the same of the archive."""
        async with _Opened(self.settings) as archive:
            reader = ArchiveReader(archive, self.settings.kafka.prefix)
            async with aclosing(reader.read(PREDICTIONS)) as records:
                return _by_partition([record async for record in records])

    async def held(self) -> list[ArchivedPartition]:
        """Return what `ls` would."""
        async with _Opened(self.settings) as archive:
            return await archived(archive, [PREDICTIONS], self.settings.kafka.prefix)

    async def records(self) -> int:
        """Return how many records are archived."""
        return sum(each.records for each in await self.held())

    async def until(self, count: int, within_seconds: float) -> None:
        """Return when so many records are archived."""

        async def enough() -> bool:
            return await self.records() >= count

        await eventually(enough, within_seconds, every_seconds=0.5, message=f"{count} records archived")


class _Worker(VerbProcess):
    def start(self) -> None:
        # A supervisor starts again without the arguments, which elsewhere are fail points.
        self.arguments = ("archive",)
        super().start()


class _Opened:
    def __init__(self, settings: Settings) -> None:
        self._store = S3WriteStore(settings.s3)
        self._archive = ObjectArchive(self._store, *parse_folder(settings.lake.archive))

    async def __aenter__(self) -> ObjectArchive:
        return self._archive

    async def __aexit__(self, *_: object) -> None:
        await self._store.close()


def _by_partition(records: Iterable[SourceRecord]) -> dict[int, list[Content]]:
    found: dict[int, list[Content]] = {}
    for record in records:
        found.setdefault(record.partition, []).append((record.offset, record.key, record.value))
    return found


async def archive_rig(
    stack: LocalStack,
    names: TestNames,
    folder: Path,
    partitions: int,
    **settings: str,
) -> ArchiveRig:
    """Return a rig on the stack's own store; see `archive_rig_on`."""
    return await archive_rig_on(stack.s3, stack, names, folder, partitions, **settings)


async def archive_rig_on(
    store: StoreAccess, stack: LocalStack, names: TestNames, folder: Path, partitions: int, **settings: str
) -> ArchiveRig:
    """Return a rig on `store`, its bucket made; `settings` are SIGHTLINE_* names without their prefix."""
    await create_bucket(store, names.bucket)
    changes = {f"SIGHTLINE_{name}": value for name, value in settings.items()}
    return ArchiveRig(Fleet(stack.kafka, names.prefix, folder, partitions), store, names, changes)
