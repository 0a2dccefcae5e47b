"""The console as it runs in production: `api`, `worker index` and `worker label` as processes on the real servers.

The marketplace's uploads are in store, topics, index and queue.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from playwright.async_api import Browser, Page

from app.domain.policy import Policy
from app.errors import BrokerUnavailable
from app.pipeline.policies import read_policy
from app.ports.index import IndexEntry
from app.settings import ROOT
from app.stack.local import LocalStack
from app.stack.ports import lease_port
from app.systems.kafka.admin import delete_topics
from app.systems.s3.put import Uploader
from schemas.records import Record
from tests.support.api.browser import Complaints, open_page
from tests.support.eventually import eventually
from tests.support.marketplace import FLAGGED_IMAGES, Listing, Wire, letters, listings, wires
from tests.support.outcomes import task_of
from tests.support.stack import TestNames
from tests.support.whole_pipeline import WholePipeline, whole_pipeline

Who = Literal["ana", "ben", "olga", "ruth"]
# Olga runs the place, Ana and Ben moderate, Ruth looks things up.
_SCOPES: Final[Mapping[Who, Sequence[str]]] = {
    "ana": ("read", "score", "moderate"),
    "ben": ("read", "score", "moderate"),
    "olga": ("read", "score", "moderate", "admin"),
    "ruth": ("read",),
}
_NAMES: Final[Mapping[Who, str]] = {"ana": "Ana", "ben": "Ben", "olga": "Olga", "ruth": "Ruth"}
_READY_SECONDS: Final = 90
_AT_ONCE: Final = 8


@dataclass(slots=True)
class Console:
    """Where it is, who may sign in, and what is in it."""

    browser: Browser
    pipeline: WholePipeline
    port: int
    score: bool
    policy: Policy
    listings: list[Listing]
    keys: dict[Who, str] = field(default_factory=dict)
    complaints: list[Complaints] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """The service's web origin."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def bucket(self) -> str:
        """The bucket of the listings."""
        return self.pipeline.bucket

    def start_api(self) -> None:
        """Start the service, or start it again, at the same port."""
        self.pipeline.start("api", "api", "--port", str(self.port), *(() if self.score else ("--no-score",)))

    async def kill_api(self) -> None:
        """End it with SIGKILL."""
        await self.pipeline.processes["api"].end(signal.SIGKILL)

    async def ready(self) -> None:
        """Return when the service says that it is ready."""
        await eventually(self._ready, _READY_SECONDS, message="the service did not become ready")

    async def _ready(self) -> bool:
        assert self.pipeline.ended() == {}, self.pipeline.logs()
        return await asyncio.to_thread(_answers, f"{self.origin}/readyz")

    async def ask(self, who: Who, path: str, body: Any = None) -> Any:
        """Return what GET `path`, or with a `body` POST, answers to the key of `who`."""
        return await asyncio.to_thread(_ask, self.origin + path, self.keys[who], body)

    @asynccontextmanager
    async def page(self, who: Who | None, path: str = "", **options: Any) -> AsyncIterator[Page]:
        """Yield a page at `path` with `who` signed in; what it complains of fails the test, see `complaints[-1]`."""
        async with open_page(self.browser, self.origin, **options) as (page, complaints):
            self.complaints.append(complaints)
            if who is None:
                await page.goto(path or "/console")
            else:
                # As the demo's link does it.
                await page.goto(f"/console#key={self.keys[who]}")
                await page.get_by_test_id("who").wait_for(state="attached")
                if path:
                    await page.goto(path)
                    await page.get_by_test_id("who").wait_for(state="attached")
            yield page

    @property
    def complaint(self) -> Complaints:
        """The complaints of the page that was opened last."""
        return self.complaints[-1]

    async def publish(self, records: Iterable[Wire]) -> None:
        """Write records to their topics, each with its own time."""
        producer = AIOKafkaProducer(bootstrap_servers=self.pipeline.settings.kafka.bootstrap, linger_ms=5)
        await producer.start()
        prefix = self.pipeline.settings.kafka.prefix
        try:
            sent = [
                await producer.send(prefix + topic, value, key, timestamp_ms=at_ms)
                for topic, key, value, at_ms in records
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    async def add(self, made: Sequence[Listing]) -> None:
        """Bring further uploads in."""
        await self.store(made)
        await self.publish(wires(made, self.policy))
        self.listings += made

    async def announce(self, listing: Listing) -> None:
        """Tell the index what a score worker tells it when an upload begins."""
        index = self.pipeline.index()
        try:
            task = task_of(listing.outcome)
            await index.apply([IndexEntry(task, self.pipeline.codec.encode(task))])
        finally:
            await index.close()

    async def store(self, made: Sequence[Listing]) -> None:
        """Upload the bytes."""
        gate = asyncio.Semaphore(_AT_ONCE)
        async with Uploader(self.pipeline.settings.s3) as uploader, asyncio.TaskGroup() as group:

            async def put(listing: Listing) -> None:
                async with gate:
                    etag = await uploader.put(self.bucket, listing.key, listing.body)
                    assert etag == listing.outcome.etag, listing.key

            for listing in made:
                group.create_task(put(listing))

    async def records(self, topic: str) -> list[Record]:
        """Return what a plain consumer of `topic` reads, partition by partition."""
        name = self.pipeline.settings.kafka.prefix + topic
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.pipeline.settings.kafka.bootstrap,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        await consumer.start()
        try:
            places = [TopicPartition(name, number) for number in range(self.pipeline.settings.kafka.partitions)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            found: list[Record] = []
            for place in places:
                while await consumer.position(place) < ends[place]:
                    got = await consumer.getmany(place, timeout_ms=500)
                    found += [self.pipeline.codec.decode(one.value) for one in got.get(place, ())]
            return found
        finally:
            await consumer.stop()


@asynccontextmanager
async def running_console(
    stack: LocalStack,
    browser: Browser,
    folder: Path,
    *,
    score: bool,
    bucket: str,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Console]:
    """Yield a console with everything in it; 50 images wait."""
    token = secrets.token_hex(4)
    names = TestNames(prefix=f"t{token}.", bucket=bucket, queue=f"queue-{token}")
    await stack.revive()
    created = await stack.create_topics(names.prefix)
    policy = read_policy(ROOT / "policies" / "default.yaml")
    lease = lease_port(purpose="api")
    try:
        async with whole_pipeline(stack, names, folder, settings=settings) as pipeline:
            console = Console(browser, pipeline, lease.port, score, policy, [])
            # The service first: loading models takes longest.
            console.start_api()
            pipeline.start_workers(("index", "label"))
            making = asyncio.create_task(_make_keys(console))
            await console.publish(letters(names.bucket))
            await console.add(await asyncio.to_thread(listings, names.bucket, policy))
            await making
            await console.ready()
            await eventually(lambda: _waits(console, FLAGGED_IMAGES), _READY_SECONDS, every_seconds=0.2)
            yield console
    finally:
        lease.release()
        with suppress(BrokerUnavailable):
            await delete_topics(stack.kafka, created)


async def _waits(console: Console, count: int) -> bool:
    assert console.pipeline.ended() == {}, console.pipeline.logs()
    found = await console.ask("olga", "/v1/queue")
    assert found["waiting"] == count, found
    return True


async def _make_keys(console: Console) -> None:
    async def make(who: Who) -> None:
        scopes = [word for scope in _SCOPES[who] for word in ("--scope", scope)]
        code, said = await console.pipeline.verb("api", "keys", "create", "--name", _NAMES[who], *scopes, "--json")
        assert code == 0, said
        console.keys[who] = json.loads(said.splitlines()[-1])["key"]

    async with asyncio.TaskGroup() as group:
        for who in _SCOPES:
            group.create_task(make(who))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _ask(url: str, key: str, body: Any) -> Any:
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, sent, headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            told = answer.read()
            return json.loads(told) if told else None
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.code} {error.read().decode(errors='replace')}") from error


def pictures_folder(otherwise: Path) -> Path:
    """Return where pictures of pages go: SCREENSHOTS names the pages' folder, tests write to their own."""
    named = os.environ.get("SCREENSHOTS")
    folder = ROOT / named if named else otherwise
    folder.mkdir(parents=True, exist_ok=True)
    return folder
