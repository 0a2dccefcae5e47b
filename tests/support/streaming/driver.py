"""Driving worker processes in tests: start, kill, freeze; feed their topics; read what they published."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.settings import ROOT
from app.systems.registry.avro import Codec
from schemas.records import ImagePrediction

ENTRY = "tests.support.streaming.worker_main"


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker as a child process, with a log of its own."""

    agent: str
    environment: Mapping[str, str]
    log_file: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    exits: list[int] = field(default_factory=list)

    def start(self) -> None:
        """Start it; its log goes on in the same file."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", ENTRY, self.agent, *self.arguments],
                cwd=ROOT,
                env={**_clean_environment(), **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs (or is frozen)."""
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended."""
        return None if self.process is None else self.process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self.process is not None and self.alive:
            self.process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGKILL, within_seconds: float = 30) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self.process is not None
        self.send(signal.SIGCONT)
        self.send(number)
        return await asyncio.to_thread(self.process.wait, within_seconds)

    def log(self) -> str:
        """Everything that it logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def health(self) -> dict[str, Any]:
        """Return what /healthz shows, or nothing while it does not answer."""
        shown = self._page("healthz")
        return dict(json.loads(shown)) if shown else {}

    def metric(self, series: str) -> float | None:
        """Return the value of a series, named as /metrics prints it, or None while it is not there."""
        for line in self._page("metrics").splitlines():
            if line.startswith(series + " "):
                return float(line.rpartition(" ")[2])
        return None

    def _page(self, name: str) -> str:
        found = sorted(Path(self.environment["SIGHTLINE_WORKER_DATA_DIR"]).glob("*/http.json"))
        for path in found:
            where = json.loads(path.read_text())
            if self.process is not None and where["pid"] == self.process.pid:
                address = f"http://{where['host']}:{where['port']}/{name}"
                with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:
                    return str(answer.read().decode())
        return ""


class Supervisor:
    """Starts workers again when they end, as systemd or Compose would; notes every exit code."""

    def __init__(self, workers: Iterable[WorkerProcess]) -> None:
        self.workers = list(workers)
        self.exits: list[int] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Supervisor:
        for worker in self.workers:
            worker.start()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        for worker in self.workers:
            if worker.alive:
                await worker.end()

    async def _watch(self) -> None:
        while True:
            for worker in self.workers:
                if not worker.alive and worker.exit_code is not None:
                    self.exits.append(worker.exit_code)
                    worker.arguments = ()
                    worker.start()
            await asyncio.sleep(0.2)


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}


@dataclass(frozen=True, slots=True)
class Fleet:
    """Workers of one agent on one prefix of one broker."""

    bootstrap: str
    prefix: str
    folder: Path
    partitions: int

    def worker(self, agent: str, number: int = 0, *arguments: str, **settings: str) -> WorkerProcess:
        """Return a worker that is not started. `settings` are SIGHTLINE_* names without their prefix."""
        environment = {
            "SIGHTLINE_KAFKA_BOOTSTRAP": self.bootstrap,
            "SIGHTLINE_KAFKA_PREFIX": self.prefix,
            "SIGHTLINE_KAFKA_PARTITIONS": str(self.partitions),
            "SIGHTLINE_KAFKA_SESSION_TIMEOUT_SECONDS": "6",
            "SIGHTLINE_WORKER_DATA_DIR": str(self.folder / "data"),
            **{f"SIGHTLINE_{name}": value for name, value in settings.items()},
        }
        return WorkerProcess(agent, environment, self.folder / f"{agent}-{number}.log", arguments)


async def feed(bootstrap: str, topic: str, values: Iterable[str], *, per_second: float | None = None) -> int:
    """Publish `values`, each its own key, and return how many when all are acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=5)
    await producer.start()
    count = 0
    try:
        pending = []
        for value in values:
            pending.append(await producer.send(topic, value.encode(), key=value.encode()))
            count += 1
            if len(pending) >= 500:
                await asyncio.gather(*pending)
                pending.clear()
                if per_second is not None:
                    await asyncio.sleep(500 / per_second)
        await asyncio.gather(*pending)
    finally:
        await producer.stop()
    return count


@asynccontextmanager
async def committed_reader(bootstrap: str, topic: str) -> AsyncIterator[CommittedReader]:
    """Yield a reader that counts what read-committed consumers of `topic` see."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        request_timeout_ms=20_000,
    )
    await consumer.start()
    try:
        partitions = consumer.partitions_for_topic(topic)
        while not partitions:
            await consumer._client.force_metadata_update()
            partitions = await _partitions(consumer, topic)
        tps = [TopicPartition(topic, number) for number in partitions]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        yield CommittedReader(consumer)
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int] | None:
    await consumer.topics()
    found: set[int] | None = consumer.partitions_for_topic(topic)
    return found


class CommittedReader:
    """Reads on and on; `uploads` counts the outcomes of each upload id."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._codec = Codec()
        self.uploads: Counter[str] = Counter()
        self.cached = 0
        self.records = 0

    async def read(self) -> int:
        """Read what has arrived; returns how many records."""
        got = 0
        for records in (await self._consumer.getmany(timeout_ms=200, max_records=5000)).values():
            for record in records:
                prediction = self._codec.decode_as(record.value, ImagePrediction)
                self.uploads[prediction.upload_id] += 1
                self.cached += prediction.cached
                got += 1
        self.records += got
        return got

    async def until(self, count: int, within_seconds: float) -> None:
        """Read until `count` different uploads were seen, or the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_seconds
        while len(self.uploads) < count and loop.time() < deadline:
            await self.read()

    async def settle(self, seconds: float = 3.0) -> None:
        """Read until nothing has come for `seconds`: what is published twice must show."""
        loop = asyncio.get_running_loop()
        quiet_since = loop.time()
        while loop.time() - quiet_since < seconds:
            if await self.read():
                quiet_since = loop.time()


def ledger(expected: Iterable[str], seen: Counter[str]) -> dict[str, int]:
    """Return how many uploads are missing, doubled and foreign."""
    wanted = set(expected)
    return {
        "missing": len(wanted - set(seen)),
        "doubled": sum(1 for count in seen.values() if count > 1),
        "foreign": len(set(seen) - wanted),
    }


def spread(workers: Iterable[WorkerProcess]) -> list[set[str]]:
    """Return which lanes each worker has open."""
    return [set(worker.health().get("lanes", {})) for worker in workers]


CLEAN = {"missing": 0, "doubled": 0, "foreign": 0}
