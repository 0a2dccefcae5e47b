"""The pipeline as it runs in production: the command line's own workers, bridge and audit as processes, a real store.

`NSFW_ONLY` leaves heads and text detector out, so that a killed worker is back soon; what is left is real all the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.demo.pictures import Picture
from app.ports.records import SourceRecord
from app.settings import ROOT, Settings, load_settings
from app.stack.local import LocalStack
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.redis.index import RedisIndex
from app.systems.registry.avro import Codec
from app.systems.s3.admin import StoreAccess
from app.systems.s3.put import Uploader
from app.topics import FLAGGED, PREDICTIONS
from schemas.records import FlaggedImage, ImagePrediction, Record
from tests.support.stack import TestNames
from tests.support.streaming.driver import WorkerProcess
from tests.support.verbs import clean_environment, run_verb_together

AGENTS = ("identify", "score", "moderate", "index")
NSFW_ONLY = {"SIGHTLINE_INFERENCE_DISABLED": "category,quality,embedded_text"}
# A policy of the one model that runs with NSFW_ONLY.
_NSFW_POLICY = """\
policy: fault
version: "1"
description: for a pipeline with one model
rules:
  - id: nsfw-review
    description: possibly nudity
    action: review
    severity: 60
    when: {model: nsfw, label: nsfw, op: ">=", threshold: 0.5}
tests:
  - name: sure
    scores: {nsfw: {nsfw: 0.9}}
    expect: review
"""


@dataclass(slots=True, eq=False)
class VerbProcess(WorkerProcess):
    """A verb of the command line as a process that may be killed; `agent` is the verb's first word."""

    def start(self) -> None:
        """Start it; its log goes on in the same file."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", self.agent, *self.arguments],
                cwd=ROOT,
                env=clean_environment(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What `./sightline audit --json` said."""

    exit_code: int
    ledger: Mapping[str, Any]

    def clean(self, uploads: int) -> bool:
        """Whether all `uploads` have exactly one outcome."""
        found = {name: self.ledger[name] for name in ("uploads", "outcomes", "lost", "duplicated")}
        return self.exit_code == 0 and found == {
            "uploads": uploads,
            "outcomes": uploads,
            "lost": 0,
            "duplicated": 0,
        }


class WholePipeline:
    """Processes on one prefix, one bucket and one folder. All are killed when the block that made it is left."""

    def __init__(self, environment: Mapping[str, str], bucket: str, folder: Path) -> None:
        self.environment = environment
        self.settings: Settings = load_settings(environment)
        self.bucket = bucket
        self.folder = folder
        self.processes: dict[str, VerbProcess] = {}
        self.codec = Codec()

    def start(self, name: str, *arguments: str, **settings: str) -> VerbProcess:
        """Start `./sightline ARGUMENTS…` as `name`; `settings` are SIGHTLINE_* names without their prefix."""
        more = {f"SIGHTLINE_{key}": value for key, value in settings.items()}
        verb = VerbProcess(
            arguments[0], {**self.environment, **more}, self.folder / f"{name}.log", tuple(arguments[1:])
        )
        verb.start()
        self.processes[name] = verb
        return verb

    def start_workers(self, agents: Iterable[str] = AGENTS, *, count: int = 1, restart: bool = False) -> None:
        """Start `count` workers of each agent, restarted when they die if `restart`."""
        for agent in agents:
            for number in range(count):
                self.start(f"{agent}-{number}", "worker", agent, *(("--restart",) if restart else ()))

    async def upload(
        self, pictures: Iterable[Picture], *, at_once: int = 8, bucket: str | None = None
    ) -> list[Picture]:
        """Upload `pictures`, made as they are asked for, to the notified bucket or another; returns them when all are
        stored."""
        gate = asyncio.Semaphore(at_once)
        sent: list[Picture] = []
        made = iter(pictures)
        async with Uploader(self.settings.s3) as uploader, asyncio.TaskGroup() as group:

            async def put(picture: Picture) -> None:
                try:
                    await uploader.put(bucket or self.bucket, picture.key, picture.body)
                finally:
                    gate.release()

            while (picture := await asyncio.to_thread(next, made, None)) is not None:
                await gate.acquire()
                sent.append(picture)
                group.create_task(put(picture))
        return sent

    async def delete(self, key: str) -> None:
        """Delete one object."""
        async with Uploader(self.settings.s3) as uploader:
            await uploader.delete(self.bucket, key)

    async def audit(self, wait_seconds: float, *, topics_alone: bool = False) -> AuditResult:
        """Run `./sightline audit` on the bucket, waiting for what is in flight.

        `topics_alone`: on all that the topics hold instead, also what names no bucket.
        """
        place = () if topics_alone else (f"s3://{self.bucket}",)
        code, output = await self.verb("audit", *place, "--json", "--wait", str(wait_seconds))
        for line in output.splitlines():
            if line.startswith("{"):
                return AuditResult(code, json.loads(line))
        raise AssertionError(f"the audit gave no ledger (exit code {code}): {output[-3000:]}")

    async def verb(self, *arguments: str) -> tuple[int, str]:
        """Run a verb to its end; return exit code and output."""
        return await run_verb_together(self.environment, *arguments)

    async def predictions(self) -> list[ImagePrediction]:
        """Return every committed outcome."""
        return [record for record in await self._records(PREDICTIONS) if isinstance(record, ImagePrediction)]

    async def published(self, count: int) -> bool:
        """Whether so many outcomes are committed."""
        return len(await self.predictions()) >= count

    async def flags(self) -> list[FlaggedImage]:
        """Return every committed flag."""
        return [record for record in await self._records(FLAGGED) if isinstance(record, FlaggedImage)]

    def index(self) -> RedisIndex:
        """Return the index that the pipeline writes; the caller closes it."""
        return RedisIndex(self.settings.redis, self.codec)

    async def _records(self, topic: str) -> list[Record]:
        return [self.codec.decode(record.value) for record in await self.committed(topic)]

    async def committed(self, topic: str) -> list[SourceRecord]:
        """Return every committed record of `topic`; those of one partition in their order."""
        async with aclosing(KafkaTopicLog(self.settings.kafka).scan(topic)) as records:
            return [record async for record in records]

    def ended(self) -> dict[str, int]:
        """Return the exit codes of the processes that do not run any more."""
        found = {name: process.exit_code for name, process in self.processes.items()}
        return {name: code for name, code in found.items() if code is not None}

    def logs(self) -> str:
        """Return the end of every log, for the message of a failed assertion."""
        return "\n".join(
            f"== {name} (exit code {process.exit_code})\n{process.log()[-1500:]}"
            for name, process in self.processes.items()
        )

    def kill_all(self) -> None:
        """Kill every process that still runs."""
        for process in self.processes.values():
            # A supervisor passes SIGTERM on and its child dies with it in any case.
            process.send(signal.SIGKILL)
        for process in self.processes.values():
            if process.process is not None:
                process.process.wait(10)


@asynccontextmanager
async def whole_pipeline(
    stack: LocalStack,
    names: TestNames,
    folder: Path,
    *,
    versitygw: StoreAccess | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[WholePipeline]:
    """Yield a pipeline on `stack` with this test's topics and bucket; with `versitygw` on that store instead."""
    queue_url = ""
    if versitygw is None:
        queue_url = await stack.notify_queue(names.bucket, names.queue)
    store = versitygw or stack.s3
    environment = {
        "SIGHTLINE_KAFKA_BOOTSTRAP": stack.kafka,
        "SIGHTLINE_KAFKA_PREFIX": names.prefix,
        "SIGHTLINE_KAFKA_PARTITIONS": str(stack.options.partitions),
        "SIGHTLINE_KAFKA_SESSION_TIMEOUT_SECONDS": "6",
        "SIGHTLINE_REDIS_URL": stack.redis_url,
        "SIGHTLINE_REDIS_PREFIX": names.prefix,
        "SIGHTLINE_S3_ENDPOINT": store.endpoint,
        "SIGHTLINE_S3_ACCESS_KEY": store.access_key,
        "SIGHTLINE_S3_SECRET_KEY": store.secret_key,
        "SIGHTLINE_S3_REGION": store.region,
        "SIGHTLINE_INFERENCE_THREADS": "2",
        "SIGHTLINE_WORKER_DATA_DIR": str(folder / "workers"),
        # No stack of the developer may lend its addresses.
        "SIGHTLINE_STACK_VAR_DIR": str(folder / "var"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **(
            {
                "SIGHTLINE_SQS_QUEUE_URL": queue_url,
                "SIGHTLINE_SQS_ENDPOINT": stack.sqs_endpoint,
                "SIGHTLINE_SQS_WAIT_SECONDS": "2",
            }
            if queue_url
            else {}
        ),
        **(settings or {}),
    }
    pipeline = WholePipeline(environment, names.bucket, folder)
    async with AsyncExitStack() as held:
        held.callback(pipeline.kill_all)
        yield pipeline


def expected_outcome(picture: Picture) -> Sequence[str]:
    """Return the outcomes that the bytes of a made picture allow."""
    match picture.scored:
        case True:
            return ("scored",)
        case False:
            return ("rejected",)
        case None:
            return ("scored", "rejected")


def nsfw_settings(folder: Path) -> dict[str, str]:
    """Return the settings of a pipeline with NSFW_ONLY, its policy written to `folder`."""
    policy = folder / "policy.yaml"
    policy.write_text(_NSFW_POLICY)
    return {**NSFW_ONLY, "SIGHTLINE_POLICY_PATH": str(policy)}


async def check_clean(pipeline: WholePipeline, sent: Sequence[Picture], wait_seconds: float = 240) -> None:
    """The audit is clean, every outcome is one of its own bytes that they allow, and no flag was published twice."""
    audit = await pipeline.audit(wait_seconds)
    assert audit.clean(len(sent)), f"{audit}\n{pipeline.logs()}"
    pictures = {picture.key: picture for picture in sent}
    outcomes = await pipeline.predictions()
    assert sorted(outcome.key for outcome in outcomes) == sorted(pictures)
    for outcome in outcomes:
        picture = pictures[outcome.key]
        assert outcome.outcome in expected_outcome(picture), f"{outcome.key}: {outcome.reason}"
        # A body that was cut off and taken for whole would show here.
        assert outcome.sha256 in (None, hashlib.sha256(picture.body).hexdigest()), outcome.key
    flags = Counter(flag.upload_id for flag in await pipeline.flags())
    assert not flags or max(flags.values()) == 1
