"""Live views of the query service, created from Settings: flag stream, operators' figures, models, policies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from agents import PIPELINE
from app.api.readiness import Check
from app.metrics import Meters
from app.ports.clock import Clock
from app.ports.index import Index
from app.serving.flag_stream import FlagHub
from app.serving.model_views import model_views, policy_view, recorded_policies
from app.serving.monitor import Monitor
from app.serving.operations import Operations, operations_on
from app.serving.topic_watch import Following
from app.serving.ttl_cache import Remembered
from app.settings import Settings
from app.systems.kafka.groups import KafkaGroups
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.registry.avro import Codec
from app.topics import FLAGGED

# Each explanation reads partitions of several topics from the beginning; more at once would load the broker.
_MOST_STORIES: Final = 2
_FILES_SECONDS: Final = 30.0
_RECORDED_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 8.0
# Shorter than the limit of a readiness check, so that the check's message names what does not answer.
_PROBE_SECONDS: Final = 5.0
_PROBE_PATIENCE_SECONDS: Final = 1.5
# No bytes have this digest: the probe only needs an answer of the index.
_NO_CONTENT: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class LiveParts:
    """Objects behind the routes for live views. `explaining` limits the explanations that are read at the same time."""

    flags: FlagHub
    operations: Operations
    models: Remembered[list[dict[str, Any]]]
    policy: Remembered[dict[str, Any]]
    recorded: Remembered[list[dict[str, Any]]]
    checks: tuple[Check, ...]
    explaining: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MOST_STORIES))


@asynccontextmanager
async def live_parts(
    settings: Settings, clock: Clock, codec: Codec, index: Index, meters: Meters
) -> AsyncIterator[LiveParts]:
    """Yield the objects. During a broker outage they wait for it in the background."""
    async with KafkaTopicLog(settings.kafka) as log:
        following = Following(log, (FLAGGED,), clock)
        flags = FlagHub(following, log, codec, meters, most=settings.api.max_streams)
        monitor = Monitor(log, codec.fields, clock)
        probe = Remembered(following.reach, clock, seconds=_PROBE_SECONDS, patience_seconds=_PROBE_PATIENCE_SECONDS)

        async def broker() -> str:
            await probe.get()
            return "answers"

        async def index_answers() -> str:
            await index.content(_NO_CONTENT)
            return "answers"

        async def read_models() -> list[dict[str, Any]]:
            return await asyncio.to_thread(model_views, settings.inference)

        async def read_policy() -> dict[str, Any]:
            return await asyncio.to_thread(policy_view, settings.policy.path)

        remembered = partial(Remembered, clock=clock, patience_seconds=_PATIENCE_SECONDS)
        parts = LiveParts(
            flags=flags,
            operations=operations_on(log, KafkaGroups(settings.kafka), codec, monitor, clock, PIPELINE),
            models=remembered(read_models, seconds=_FILES_SECONDS),
            policy=remembered(read_policy, seconds=_FILES_SECONDS),
            recorded=remembered(partial(recorded_policies, log, codec), seconds=_RECORDED_SECONDS),
            checks=(Check("index", index_answers), Check("kafka", broker)),
        )
        async with flags.running(), monitor.running():
            yield parts
