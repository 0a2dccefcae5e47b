"""The processors of agents that hold connections or models; heavy libraries load only where an agent needs them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from agents import ARCHIVE, INDEX, SCORE, agent_named
from agents.declaration import Agent, Wiring
from app.compose.bootstrap import Parts, ProcessorFactory
from app.errors import ConfigurationError
from app.metrics import Meters
from app.ports.processing import Processor
from app.settings import Settings
from app.systems.kafka.admin import check_topics, topic_ids
from app.systems.registry.client import check_registry
from app.topics import topics_of

if TYPE_CHECKING:
    from app.inference.registry import Registry
    from app.pipeline.contents import Contents

logger = logging.getLogger(__name__)


def production_parts(agent: str) -> Parts:
    """Return what the worker of `agent` is made of. Raises ConfigurationError for a name that is no agent."""
    return Parts(processor=_factory(agent_named(agent)), check=check_surroundings)


async def check_surroundings(settings: Settings) -> None:
    """Return when broker, topics and registry are as they must be. Raises StartupRefused or Retryable, one sentence."""
    kafka = settings.kafka
    await check_topics(kafka.bootstrap, topics_of(settings.tables), partitions=kafka.partitions, prefix=kafka.prefix)
    if settings.registry.url:
        await check_registry(settings.registry.url)


def _factory(agent: Agent) -> ProcessorFactory:
    build = agent.processor
    if build is None:
        return _FACTORIES[agent.name]
    return lambda wiring: nullcontext(build(wiring))


@asynccontextmanager
async def _index(wiring: Wiring) -> AsyncIterator[Processor]:
    from app.moderation.redis_queue import RedisQueue
    from app.pipeline.index import ImageFacts, IndexProcessor
    from app.systems.redis.index import RedisIndex

    settings = wiring.settings
    index = RedisIndex(settings.redis, wiring.codec)
    queue = RedisQueue(settings.redis, settings.moderation, wiring.clock)
    try:
        facts = ImageFacts(index, queue, settings.moderation.actions)
        yield IndexProcessor(wiring.codec, facts, wiring.clock, wiring.status)
    finally:
        await queue.close()
        await index.close()


@asynccontextmanager
async def _archive(wiring: Wiring) -> AsyncIterator[Processor]:
    from app.archive.partitions import ObjectArchive
    from app.domain.places import parse_folder
    from app.pipeline.archive import ArchiveProcessor
    from app.systems.s3.write import S3WriteStore

    settings = wiring.settings
    kafka, (bucket, prefix) = settings.kafka, parse_folder(settings.lake.archive)
    _, ids = await topic_ids(kafka.bootstrap, (kafka.prefix + topic for topic in settings.archive.topics))
    store = S3WriteStore(settings.s3)
    try:
        archive = ObjectArchive(store, bucket, prefix, ids)
        await archive.check()
        yield ArchiveProcessor(archive, settings.archive, wiring.clock, wiring.status, wiring.meters, kafka.prefix)
    finally:
        await store.close()


@asynccontextmanager
async def _score(wiring: Wiring) -> AsyncIterator[Processor]:
    from app.inference.active import load_active

    registry = await asyncio.to_thread(load_active, wiring.settings.inference)
    names = ", ".join(f"{manifest.name}@{manifest.version}" for manifest in registry.manifests)
    logger.info("models on %s: %s", registry.device, names)
    async with score_with(registry, wiring) as processor:
        yield processor


@asynccontextmanager
async def score_with(registry: Registry, wiring: Wiring) -> AsyncIterator[Processor]:
    """Yield the processor of the score agent with these models."""
    from app.inference.engine import Engine
    from app.pipeline.contents import Contents
    from app.pipeline.policies import load_policy
    from app.pipeline.score import ScoreProcessor
    from app.systems.s3.objects import S3ObjectStore

    settings = wiring.settings
    if wiring.tables is None:
        raise ConfigurationError("the score agent needs its tables")
    policy = load_policy(settings.policy.path, settings.inference.models_dir)
    engine = Engine(registry, settings.limits, settings.inference, settings.engine)
    engine.decoding.start()
    contents = Contents(engine)
    read_engine(contents, wiring.meters)
    store = S3ObjectStore(settings.s3)
    try:
        yield ScoreProcessor(
            codec=wiring.codec,
            store=store,
            contents=contents,
            tables=wiring.tables,
            status=wiring.status,
            clock=wiring.clock,
            policy=policy,
            settings=settings,
            worker=wiring.worker_id,
            release=wiring.release,
        )
    finally:
        await store.close()
        await engine.close()


_FACTORIES: Final[Mapping[str, ProcessorFactory]] = {
    SCORE.name: _score,
    INDEX.name: _index,
    ARCHIVE.name: _archive,
}


def read_engine(contents: Contents, meters: Meters) -> None:
    """Let the engine's own counts be read at each scrape."""
    engine = contents.engine
    meters.read("sightline_contents_total", lambda: _by_label(dataclasses.asdict(contents.counts)))
    meters.read("sightline_batches_total", lambda: _by_label(engine.counts.batches))
    meters.read("sightline_batch_members_total", lambda: _by_label(engine.counts.members))
    meters.read("sightline_device_busy_seconds_total", lambda: {(): engine.counts.busy_seconds})
    meters.read("sightline_decoder_processes_total", lambda: _by_label(dataclasses.asdict(engine.decoding.counts)))
    meters.read("sightline_engine_waiting", lambda: _by_label(engine.waiting()))


def _by_label(counts: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(label,): count for label, count in counts.items()}
