"""Fixtures with real servers: one stack for the whole test run on leased ports, unique names for each test.

Without the servers (no network for the first download, no disk) such tests skip; with REQUIRE_SERVICES=1 they fail.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from app.errors import BrokerUnavailable, StartupRefused
from app.settings import ROOT
from app.stack.local import LocalStack
from app.stack.options import StackOptions
from app.stack.processes import end_stale
from app.systems.kafka.admin import delete_topics
from app.systems.s3.admin import StoreAccess
from app.topics import UPLOADS

TEST_PARTITIONS = 4
_RUNS = ROOT / "var" / "test"


def services_required() -> bool:
    """Whether a missing server is a failure instead of a skip."""
    return os.environ.get("REQUIRE_SERVICES") == "1"


def skip_without_services(reason: str) -> None:
    """Skip the running test, or fail it where services are required."""
    if services_required():
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True, slots=True)
class TestNames:
    """Names that no other test uses. `prefix` goes before topic and group names (SIGHTLINE_KAFKA_PREFIX)."""

    __test__ = False

    prefix: str
    bucket: str
    queue: str

    def group(self, name: str) -> str:
        """Return a consumer group's name."""
        return f"{self.prefix}{name}"

    def topic(self, name: str) -> str:
        """Return a topic's name."""
        return f"{self.prefix}{name}"


@pytest.fixture
def names() -> TestNames:
    """Names for one test."""
    token = secrets.token_hex(4)
    return TestNames(prefix=f"t{token}.", bucket=f"bucket-{token}", queue=f"queue-{token}")


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    """Kafka, registry, Redis and MiniStack for the whole run; `stack.kafka`, `.registry_url`, `.redis_url`, `.s3`, …"""
    with asyncio.Runner() as runner:
        runner.run(_sweep())
        folder = _RUNS / str(os.getpid())
        running = LocalStack(StackOptions(var_dir=folder, partitions=TEST_PARTITIONS, fresh=True))
        try:
            runner.run(running.__aenter__())
        except StartupRefused as refusal:
            skip_without_services(str(refusal))
        try:
            yield running
        finally:
            runner.run(running.__aexit__(None, None, None))
            if not os.environ.get("KEEP_STACK"):
                shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def topics(stack: LocalStack, names: TestNames) -> AsyncIterator[str]:
    """All topics of app/topics.py under this test's prefix; the value is the prefix.

    What a failed fault test left dead or frozen is brought back first, so that one failure stays one.
    """
    await stack.revive()
    created = await stack.create_topics(names.prefix)
    yield names.prefix
    # Costs a tenth of a second; left there, the topics of 15 tests make a restart of the killed broker 30 s slower.
    with suppress(BrokerUnavailable):
        await delete_topics(stack.kafka, created)


@pytest_asyncio.fixture
async def versitygw(stack: LocalStack, names: TestNames, topics: str) -> AsyncIterator[StoreAccess]:
    """A versitygw of this test alone, with bucket `names.bucket`; it notifies this test's `s3.uploads`."""
    server = f"versitygw-{names.bucket}"
    try:
        access = await stack.add_versitygw(server, topics + UPLOADS, names.bucket)
    except StartupRefused as refusal:
        skip_without_services(str(refusal))
        raise
    try:
        yield access
    finally:
        await stack.remove(server)
        shutil.rmtree(stack.options.data_dir / server, ignore_errors=True)


async def _sweep() -> None:
    """End what earlier test runs left that were killed, and remove their folders."""
    for folder in _RUNS.glob("*"):
        if _unlocked(folder / "run" / "stack.lock"):
            await end_stale(folder / "run")
            shutil.rmtree(folder, ignore_errors=True)


def _unlocked(path: Path) -> bool:
    try:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
