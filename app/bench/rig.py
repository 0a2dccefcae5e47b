"""What a measurement runs on: servers of its own, workers as processes of their own, a follower of outcomes.

Everything is on loopback, in a folder of its own below var/, and is ended by pid when the rig is left.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import psutil

from app.bench.children import Children
from app.bench.notifications import put_notification
from app.demo.screen import shown
from app.errors import StartupRefused
from app.ports.topics import Follower
from app.settings import ROOT, Settings, load_settings
from app.stack.local import LocalStack
from app.stack.options import StackOptions, StoreKind
from app.stack.processes import ServerProcess
from app.systems.faust.data_dir import home_folder
from app.systems.http_health import PORT_FILE
from app.systems.kafka.producer import KafkaProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.registry.avro import Codec
from app.systems.s3.put import Uploader
from app.topics import PREDICTIONS, UPLOADS
from schemas.records import ImagePrediction

BUCKET: Final = "bench"
# Topics of our own: versitygw's notifications go to the topics without it, which nobody reads here, so that an upload
# becomes work exactly when a round asks for it.
PREFIX: Final = "bench."
_READY_SECONDS: Final = 180.0
_SILENCE_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1

_SERVERS: Final = (
    "SIGHTLINE_KAFKA_BOOTSTRAP",
    "SIGHTLINE_KAFKA_PARTITIONS",
    "SIGHTLINE_REGISTRY_",
    "SIGHTLINE_REDIS_",
    "SIGHTLINE_SQS_",
    "SIGHTLINE_S3_",
)

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the bench's bucket."""

    key: str
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    cpu_seconds: float
    rss_bytes: int


class Rig:
    """Servers, workers and the follower; use as `async with` from the main thread. `s3` empty: Kafka alone."""

    def __init__(self, var_dir: Path, s3: str, environment: Mapping[str, str], report: Report) -> None:
        self._folder = var_dir / "bench"
        options = StackOptions(
            var_dir=self._folder,
            s3=cast("StoreKind", s3 or "ministack"),
            bucket=BUCKET,
            fresh=True,
            with_registry=False,
            with_redis=False,
            with_s3=bool(s3),
        )
        self._stack = LocalStack(options, report)
        # The rig has servers of its own, whatever the caller's settings name.
        self._given = {name: value for name, value in environment.items() if not name.startswith(_SERVERS)}
        self._report = report
        self._held = AsyncExitStack()
        self._codec = Codec()
        self._sequencer = time.time_ns() // 1_000
        self._children: Children | None = None
        self._follower: Follower | None = None
        self._producer: KafkaProducer | None = None
        self.settings = Settings()
        self.environment: Mapping[str, str] = {}

    async def __aenter__(self) -> Self:
        try:
            stack = await self._held.enter_async_context(self._stack)
            await stack.create_topics(PREFIX)
            self.environment = {
                **self._given,
                **stack.environment,
                "SIGHTLINE_KAFKA_PREFIX": PREFIX,
                "SIGHTLINE_S3_BUCKETS": BUCKET,
                "SIGHTLINE_WORKER_DATA_DIR": str(self._workers_dir),
            }
            self.settings = load_settings(self.environment)
            shutil.rmtree(self._workers_dir, ignore_errors=True)
            self._children = await self._held.enter_async_context(Children(self._folder, self.environment))
            self._producer = KafkaProducer(self.settings.kafka, "sightline-bench")
            self._held.push_async_callback(self._producer.close)
            self._follower = await self._held.enter_async_context(
                KafkaTopicLog(self.settings.kafka).follow((PREDICTIONS,))
            )
        except BaseException:
            await self._held.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._held.aclose()

    @property
    def _workers_dir(self) -> Path:
        return self._folder / "workers"

    @property
    def children(self) -> Children:
        """The processes that the rig runs."""
        assert self._children is not None
        return self._children

    def server_pids(self) -> dict[str, int]:
        """Return the pids of the servers by name."""
        return {name: pid for name in self._stack.names if (pid := self._stack.pid_of(name)) is not None}

    async def start_worker(self, agent: str) -> ServerProcess:
        """Start one worker and return when it serves /healthz: its models are loaded then."""
        port_file = home_folder(self._workers_dir, PREFIX, agent, "0") / PORT_FILE
        port_file.unlink(missing_ok=True)
        process = self.children.start(agent, "worker", agent)
        deadline = time.monotonic() + _READY_SECONDS
        while not port_file.exists():
            self.children.check()
            if time.monotonic() > deadline:
                raise StartupRefused(
                    f"{agent} was not ready after {_READY_SECONDS:.0f} s; see {shown(self.children.log_file(agent))}"
                )
            await asyncio.sleep(_POLL_SECONDS)
        return process

    async def store(self, contents: Sequence[bytes] | object, name: str) -> list[StoredObject]:
        """Upload `contents` (an iterable of bytes, made as it is read) and return the objects in order."""
        objects: list[StoredObject] = []
        async with Uploader(self.settings.s3) as uploader:
            made = iter(cast("Sequence[bytes]", contents))
            number = 0
            while (body := await asyncio.to_thread(next, made, None)) is not None:
                key = f"{name}/{number:06d}.jpg"
                objects.append(StoredObject(key, await uploader.put(BUCKET, key, body), len(body)))
                number += 1
        return objects

    async def announce(self, objects: Sequence[StoredObject]) -> None:
        """Publish one upload event for each object, each an upload of its own; returns when the broker has them."""
        assert self._producer is not None
        records: list[tuple[str, bytes | None, bytes]] = []
        for stored in objects:
            self._sequencer += 1
            event = put_notification(BUCKET, stored.key, stored.etag, stored.size_bytes, self._sequencer)
            records.append((UPLOADS, None, event))
        await self._producer.send_batch(records)

    async def outcomes(
        self, count: int, seen: Callable[[float, ImagePrediction], None], watch: Callable[[], None] | None = None
    ) -> None:
        """Wait for `count` outcomes; `seen` gets each with the Unix seconds at which the worker sent it.

        Raises StartupRefused when they stop coming.
        """
        assert self._follower is not None
        news_at, found = time.monotonic(), 0
        while found < count:
            records = await self._follower.poll(_POLL_SECONDS)
            now = time.monotonic()
            for source in records:
                seen(source.timestamp_ms / 1000, self._codec.decode_as(source.value, ImagePrediction))
            found += len(records)
            if records:
                news_at = now
            if watch is not None:
                watch()
            self.children.check()
            if now - news_at > _SILENCE_SECONDS:
                log = shown(self.children.log_file("score"))
                raise StartupRefused(f"{found} of {count} outcomes, then none for {_SILENCE_SECONDS:.0f} s; see {log}")

    async def bare_loop(self) -> asyncio.subprocess.Process:
        """Start the bare loop and return when its models are loaded."""
        import sys

        log = self.children.log_file("bare")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "app", "bench", "bare"),
                env={**self.environment, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=16 * 1024 * 1024,
            )

        async def end() -> None:
            if process.returncode is None:
                process.terminate()
                await process.wait()

        self._held.push_async_callback(end)
        await answer(process, shown(log))
        return process

    async def bare_round(
        self, process: asyncio.subprocess.Process, objects: Sequence[StoredObject]
    ) -> dict[str, object]:
        """Let the bare loop read and score `objects`."""
        assert process.stdin is not None
        asked = {"bucket": BUCKET, "objects": [(stored.key, stored.etag, stored.size_bytes) for stored in objects]}
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        await process.stdin.drain()
        return await answer(process, shown(self.children.log_file("bare")))


async def answer(process: asyncio.subprocess.Process, log: str) -> dict[str, object]:
    """Return the next line of a child that speaks JSON lines. Raises StartupRefused when it ended instead."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise StartupRefused(f"the bare loop ended (exit code {await process.wait()}); see {log}")
    return cast("dict[str, object]", json.loads(line))


def usage(pid: int) -> Usage:
    """Return CPU seconds and resident bytes of a process and its children."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    times = [member.cpu_times() for member in family]
    return Usage(sum(part.user + part.system for part in times), sum(member.memory_info().rss for member in family))
