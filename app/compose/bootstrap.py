"""Builds a worker, once, from Settings: checks, tables, lanes, pumps, the agent's processor, health."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import mode

from agents import agent_named
from agents.declaration import Agent, Source, Wiring
from agents.pumping import attach
from app import __version__
from app.compose.suspicion import suspicion_of
from app.errors import Fatal
from app.memory_trim import settle_heap
from app.pipeline.dead_letters import GiveUp
from app.ports.processing import FollowsPartitions, Processor
from app.ports.records import Output
from app.settings import Settings
from app.streaming.ceiling import Ceiling
from app.streaming.credits import Credits, LiveGate
from app.streaming.failstop import fail_stop
from app.streaming.lane import LaneParts
from app.streaming.lanes import Lanes
from app.streaming.meters import CountingMeters
from app.streaming.ports import LaneProducers, OnFailure, SourcePartition, TableStore, WireOutput
from app.streaming.pump import Pump
from app.streaming.status import ContextStatus
from app.streaming.suspects import Suspects
from app.streaming.worker import Worker
from app.systems.clock import SystemClock
from app.systems.faust import transport as faust_transport
from app.systems.faust.data_dir import TablesOrigin, WorkerHome, claim_home, tables_folder
from app.systems.faust.open_files import allow_open_files, files_needed
from app.systems.faust.transport import RebalanceHooks, SourceGate
from app.systems.http_health import HealthServer
from app.systems.kafka.admin import topic_ids
from app.systems.kafka.transactions import KafkaLaneProducers, changelog_producer
from app.systems.prometheus import PrometheusMeters
from app.systems.registry.avro import Codec
from app.topics import group_of

logger = logging.getLogger(__name__)
ProcessorFactory = Callable[[Wiring], contextlib.AbstractAsyncContextManager[Processor]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the outside of a worker is made of; tests put their own processors and producers in."""

    processor: ProcessorFactory
    producers: Callable[[LaneProducers], LaneProducers] = field(default=lambda producers: producers)
    tables: Callable[[TableStore], TableStore] = field(default=lambda tables: tables)
    check: Callable[[Settings], Awaitable[None]] | None = None


@dataclass(slots=True, eq=False)
class _Host:
    """See agents.pumping.AgentHost."""

    prefix: str
    pumps: Mapping[str, Pump]
    on_failure: OnFailure
    worker: Worker | None = None

    def topic_name(self, topic: str) -> str:
        return self.prefix + topic

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(self.pumps)

    def intake(self, topic: str) -> Pump:
        return self.pumps[topic]

    @property
    def stopping(self) -> bool:
        return self.worker is not None and self.worker.stopping


class _StreamApp:
    """See app.streaming.worker.StreamApp."""

    def __init__(self, app: faust_transport.App, lanes: Callable[[], Lanes], loaded: Callable[[], int]) -> None:
        self._app = app
        self._lanes = lanes
        self._loaded = loaded

    async def start(self) -> None:
        await self._app.start()

    async def stop(self) -> None:
        await self._app.stop()

    def loaded_records(self) -> int:
        return self._loaded()

    def phase(self) -> tuple[str, object]:
        app = self._app
        recovery = app.tables._recovery
        if not self._lanes().assigned:
            # Nothing to do is no stall: more workers than partitions, or a broker that is away.
            return "running", None
        if recovery is not None and recovery.in_recovery:
            return "recovering", (self._loaded(), sum(filter(None, recovery.active_offsets.values())))
        if app.rebalancing:
            return "recovering", self._loaded()
        return "running", None


def faust_app(settings: Settings, agent: str, home: WorkerHome) -> faust_transport.App:
    """Return the Faust app of one agent: a consumer group of its own, and every default that matters said."""
    kafka = settings.kafka
    faust_transport.register()
    return faust_transport.App(
        settings.kafka.prefix + group_of(agent),
        broker=faust_transport.broker_urls(kafka.bootstrap),
        autodiscover=False,
        datadir=str(home.tables),
        origin=None,
        key_serializer="raw",
        value_serializer="raw",
        processing_guarantee="at_least_once",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=kafka.partitions,
        topic_replication_factor=kafka.replication,
        table_standby_replicas=0,
        stream_wait_empty=False,
        # Our consumer keeps to half of it: Faust finds it neither full nor full enough to pause partitions itself.
        stream_buffer_maxsize=2 * faust_transport.TOPIC_BUFFER,
        stream_recovery_delay=0.5,
        broker_max_poll_records=faust_transport.FETCH_RECORDS,
        broker_commit_interval=60.0,
        broker_session_timeout=kafka.session_timeout_seconds,
        broker_heartbeat_interval=min(3.0, kafka.session_timeout_seconds / 4),
        broker_rebalance_timeout=kafka.rebalance_timeout_seconds,
        broker_request_timeout=kafka.request_timeout_seconds,
        # The watchdog judges progress; Kafka's own poll interval would only send a busy worker away.
        broker_max_poll_interval=86_400.0,
        consumer_auto_offset_reset="earliest",
        producer_request_timeout=30.0,
        agent_supervisor=mode.CrashingSupervisor,
        worker_redirect_stdouts=False,
        cython_optimizations=False,
    )


@contextlib.asynccontextmanager
async def build_worker(settings: Settings, agent: str, parts: Parts) -> AsyncIterator[Worker]:
    """Yield a worker that is ready to run; everything it holds is released afterwards.

    Raises StartupRefused, ConfigurationError or another Fatal with one sentence when it must not start.
    """
    row = agent_named(agent)
    sources = row.sources_by(settings)
    group = settings.kafka.prefix + row.group
    async with contextlib.AsyncExitStack() as held:
        home = claim_home(settings.worker, agent, settings.kafka.prefix)
        held.callback(home.release)
        if parts.check is not None:
            await parts.check(settings)
        if row.tables:
            allow_open_files(files_needed(settings, len(row.tables)))
            home = await _with_tables(settings, row, home)
        clock, codec, meters = SystemClock(), Codec(), PrometheusMeters()
        prefix = settings.kafka.prefix
        app = faust_app(settings, agent, home)
        failures = _Failures()
        app.on_failure = failures
        credits = {source.topic: Credits(source.credits(settings)) for source in sources}
        suspicion = await held.enter_async_context(
            suspicion_of(
                row,
                settings.kafka,
                topics=tuple(credits),
                capacity=sum(pool.total for pool in credits.values()),
                folder=home.path,
                codec=codec,
                clock=clock,
                on_failure=failures,
            )
        )
        failures.suspects = suspicion.suspects
        control = SourceGate(app)
        tables: TableStore | None = None
        loaded: Callable[[], int] = int
        if row.tables:
            from app.systems.faust.tables import BulkLoader, FaustTables

            changelog = await held.enter_async_context(changelog_producer(settings.kafka, f"{group}-tables"))
            faust_tables = FaustTables(app, settings.tables, settings.kafka.partitions, changelog)
            loader = BulkLoader(faust_tables, settings.kafka)
            app.use_bulk_recovery(loader)
            tables = parts.tables(faust_tables)
            loaded = lambda: loader.loaded_records  # noqa: E731 - one expression, named for its use

        wiring = Wiring(settings, agent, home.worker_id, __version__, clock, codec, ContextStatus(), meters, tables)
        processor = await held.enter_async_context(parts.processor(wiring))

        def encode(output: Output) -> WireOutput:
            return WireOutput(prefix + output.topic, output.key, codec.encode(output.record))

        def lane_opened(source: SourcePartition, position: int) -> None:
            if isinstance(processor, FollowsPartitions):
                processor.begins_at(source.topic.removeprefix(prefix), source.partition, position)

        lane_parts = LaneParts(
            processor=processor,
            encode=encode,
            tables=tables,
            ceiling=Ceiling(settings.lane.dead_letter_ratio, settings.lane.dead_letter_run, suspicion.letters),
            settings=row.lane(settings),
            clock=clock,
            meters=CountingMeters(meters),
            on_failure=failures,
            opened=lane_opened,
            suspects=suspicion.suspects,
            give_up=GiveUp(agent, processor, clock),
        )
        producers = parts.producers(KafkaLaneProducers(settings.kafka, group))
        lanes = Lanes(lane_parts, producers, control)
        topics = frozenset(prefix + topic for topic in credits)

        def assigned(sources: frozenset[SourcePartition]) -> None:
            if row.tables and not _same_worker(sources, topics):
                failures(Fatal(f"lanes of one partition number lie on different workers: {sorted(sources)}"))
            lanes.assign(sources)

        async def revoked() -> None:
            try:
                await lanes.revoke(settings.lane.drain_seconds)
            except Fatal as error:
                # aiokafka would only log it and join again, beside lanes that are still there.
                failures(error)
                raise

        app.hooks = RebalanceHooks(revoked=revoked, assigned=assigned, recovered=lanes.ready)
        pumps = _pumps(sources, credits, lanes, app)
        host = _Host(prefix, pumps, failures)
        attach(app, host, agent)
        named = {prefix + topic: pump for topic, pump in pumps.items()}
        worker = Worker(
            _StreamApp(app, lambda: lanes, loaded),
            lanes,
            named,
            control,
            settings.lane,
            clock,
            meters,
            fail_stop,
        )
        host.worker = failures.worker = worker
        health = HealthServer(settings.worker.http_host, settings.worker.http_port, meters.text, worker.health)
        await health.start(home.path)
        held.push_async_callback(health.stop)
        logger.info(
            "%s worker %s: group %s, http://%s:%d/metrics and /healthz, data in %s",
            agent,
            home.worker_id,
            group,
            settings.worker.http_host,
            health.port,
            home.path,
        )
        yield worker


async def _with_tables(settings: Settings, agent: Agent, home: WorkerHome) -> WorkerHome:
    """Return `home` with the folder of the tables that belong to the changelogs of this group on this cluster."""
    prefix = settings.kafka.prefix
    cluster, changelogs = await topic_ids(
        settings.kafka.bootstrap, (prefix + table.changelog for table in agent.tables)
    )
    origin = TablesOrigin(cluster, prefix + agent.group, changelogs)
    return replace(home, tables=await asyncio.to_thread(tables_folder, home.path, origin))


class _Failures:
    """Ends the process at the first failure, but for those that an orderly end brings with it."""

    worker: Worker | None = None
    suspects: Suspects | None = None

    def __call__(self, error: BaseException) -> None:
        if self.worker is not None and self.worker.stopped:
            logger.debug("after the end: %r", error)
            return
        if self.suspects is not None:
            self.suspects.ended_by(error)
        fail_stop(error)


def _pumps(
    sources: Sequence[Source], credits: Mapping[str, Credits], lanes: Lanes, app: faust_transport.App
) -> dict[str, Pump]:
    """Return one pump for each source."""
    return {
        source.topic: Pump(
            lanes,
            credits[source.topic],
            app.deliveries,
            LiveGate(credits[source.yields_to]) if source.yields_to is not None else None,
        )
        for source in sources
    }


async def run_worker(settings: Settings, agent: str, parts: Parts) -> None:
    """Run until SIGTERM or SIGINT; returns after an orderly end. Failures end the process themselves."""
    loop, running = asyncio.get_running_loop(), asyncio.current_task()
    assert running is not None
    started: list[Worker] = []

    def end() -> None:
        if started:
            started[0].stop()
        else:
            running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        async with build_worker(settings, agent, parts) as worker:
            started.append(worker)
            settle_heap()
            working = asyncio.create_task(worker.run(), name="worker")
            await asyncio.wait({working})
            if (error := working.exception()) is not None:
                worker.suspects.ended_by(error)
                fail_stop(error)
    except asyncio.CancelledError:
        if started:
            raise
        logger.info("stopped before the start was complete")


def _same_worker(sources: frozenset[SourcePartition], topics: frozenset[str]) -> bool:
    """Whether every partition number in `sources` is there for all of `topics`: tables are shared by number."""
    numbers: dict[int, set[str]] = {}
    for source in sources:
        numbers.setdefault(source.partition, set()).add(source.topic)
    return all(found == topics for found in numbers.values())
