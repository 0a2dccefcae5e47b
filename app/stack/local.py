"""Local stack as a Python object: `async with LocalStack(StackOptions()) as stack`.

Servers start concurrently. Each is ready only when it serves and has its contents: Kafka its topics, the registry its
schemas, MiniStack its bucket and queue. Each can be killed, frozen and restarted separately; it keeps its port and its
data on disk.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from app.domain.places import parse_folder
from app.errors import Retryable, StartupRefused
from app.lake.connect import setup as lake_setup
from app.lake.connect.client import ConnectClient
from app.lake.connect.config import worker_environment
from app.settings import load_settings
from app.stack import agents, connect, kafka, probes, redis_server, registry_server, store_servers
from app.stack.jars import Report
from app.stack.options import ACCESS_KEY, REGION, SECRET_KEY, StackOptions, StoreKind
from app.stack.ports import HOST, PortLease, lease_port
from app.stack.processes import (
    ServerCommand,
    ServerProcess,
    end_stale,
    identify_process,
    living_owner,
)
from app.stack.state import ServerState, StackState, remove_state, save_state
from app.stack.user_key import ensure_key
from app.systems.kafka import admin as kafka_admin
from app.systems.registry.client import SchemaRegistry, refuse_other_ids, register_all
from app.systems.s3.admin import StoreAccess, create_bucket, notify_queue
from app.topics import LAKE_TOPICS, TOPICS, UPLOADS, TopicSpec, topics_of

KAFKA: Final = "kafka"
REGISTRY: Final = "registry"
REDIS: Final = "redis"
CONNECT: Final = "connect"
WATCH: Final = "lake-watch"
_PROBE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Server:
    process: ServerProcess
    endpoint: str
    answers: Callable[[], Awaitable[bool]]
    furnish: Callable[[], Awaitable[None]]
    leases: tuple[PortLease, ...]
    # True if the stack ends when this server ends.
    vital: bool = True


def _silent(_line: str) -> None:
    """Report nothing."""


class LocalStack:
    """Real servers on loopback for as long as the `async with` block. Not thread-safe; one stack per `var_dir`.

    Enter it from a thread that outlives it (the main thread): on Linux the servers die with the thread that started
    them.
    """

    def __init__(self, options: StackOptions | None = None, report: Report = _silent) -> None:
        self.options = options if options is not None else StackOptions()
        self._report = report
        self._servers: dict[str, _Server] = {}
        self._lock: IO[str] | None = None
        self._queue_url = ""
        self._ready = False
        self._api_lease: PortLease | None = None
        self._topics_made = asyncio.Event()

    # Endpoints

    @property
    def kafka(self) -> str:
        """Bootstrap address of Kafka, host:port."""
        return self._servers[KAFKA].endpoint

    @property
    def registry_url(self) -> str:
        """Base of the registry's Confluent API."""
        return self._servers[REGISTRY].endpoint

    @property
    def redis_url(self) -> str:
        """Address of database 0."""
        return self._servers[REDIS].endpoint

    @property
    def s3_endpoint(self) -> str:
        """Address of the S3 server."""
        return self._servers[self.options.s3].endpoint

    @property
    def s3(self) -> StoreAccess:
        """Address and keys of the S3 server."""
        return StoreAccess(self.s3_endpoint, ACCESS_KEY, SECRET_KEY, REGION)

    @property
    def sqs_endpoint(self) -> str:
        """Address of SQS; empty if S3 notifies Kafka directly."""
        return self.s3_endpoint if self.options.s3 == "ministack" else ""

    @property
    def queue_url(self) -> str:
        """Queue with the notifications of the bucket; empty if S3 notifies Kafka directly."""
        return self._queue_url

    @property
    def connect_url(self) -> str:
        """Address of Kafka Connect's REST interface."""
        return self._servers[CONNECT].endpoint

    @property
    def has_lake(self) -> bool:
        """True if Kafka Connect is one of the servers."""
        return CONNECT in self._servers

    @property
    def _catalog_file(self) -> Path:
        return self.options.data_dir.resolve() / "lake" / "catalog.db"

    @property
    def environment(self) -> dict[str, str]:
        """Endpoints as SIGHTLINE_* variables."""
        variables: dict[str, str] = {}
        if KAFKA in self._servers:
            variables["SIGHTLINE_KAFKA_BOOTSTRAP"] = self.kafka
            variables["SIGHTLINE_KAFKA_PARTITIONS"] = str(self.options.partitions)
            if self.options.topic_prefix:
                variables["SIGHTLINE_KAFKA_PREFIX"] = self.options.topic_prefix
        if REGISTRY in self._servers:
            variables["SIGHTLINE_REGISTRY_URL"] = self.registry_url
        if REDIS in self._servers:
            variables["SIGHTLINE_REDIS_URL"] = self.redis_url
        if self.options.s3 in self._servers:
            variables["SIGHTLINE_S3_ENDPOINT"] = self.s3_endpoint
            variables["SIGHTLINE_S3_ACCESS_KEY"] = ACCESS_KEY
            variables["SIGHTLINE_S3_SECRET_KEY"] = SECRET_KEY
            variables["SIGHTLINE_S3_REGION"] = REGION
        if self.options.with_lake or self.has_lake:
            lake = self.options.lake
            variables["SIGHTLINE_LAKE_CATALOG_URI"] = str(self._catalog_file)
            variables["SIGHTLINE_LAKE_COMMIT_SECONDS"] = f"{lake.commit_seconds:g}"
            variables["SIGHTLINE_LAKE_COMMIT_TIMEOUT_SECONDS"] = f"{lake.commit_timeout_seconds:g}"
            variables["SIGHTLINE_LAKE_TASKS"] = str(lake.tasks)
            variables["SIGHTLINE_LAKE_NAMESPACE"] = lake.namespace
            variables["SIGHTLINE_LAKE_WAREHOUSE"] = lake.warehouse
            variables["SIGHTLINE_LAKE_ARCHIVE"] = lake.archive
            if CONNECT in self._servers:
                variables["SIGHTLINE_LAKE_CONNECT_URL"] = self.connect_url
        if self._queue_url:
            variables["SIGHTLINE_SQS_ENDPOINT"] = self.sqs_endpoint
            variables["SIGHTLINE_SQS_QUEUE_URL"] = self._queue_url
        if self._api_lease is not None:
            variables["SIGHTLINE_API_PORT"] = str(self._api_lease.port)
            variables["SIGHTLINE_WORKER_DATA_DIR"] = str(agents.workers_dir(self.options))
        return variables

    @property
    def names(self) -> tuple[str, ...]:
        """Servers of this stack."""
        return tuple(self._servers)

    def pid_of(self, name: str) -> int | None:
        """Return the pid of a running server."""
        return self._servers[name].process.pid

    # Life

    async def __aenter__(self) -> Self:
        """Start everything. After a failure, end everything that was started. Raises StartupRefused."""
        try:
            await self._prepare()
            await self._start_all()
            if self.options.agents:
                await self._start_agents()
            self._ready = True
            self._save()
        except BaseException:
            await self._end_all()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end_all()

    async def wait_for_exit(self) -> str:
        """Wait until a server ends by itself and return a sentence about it. Agents that end are only reported."""
        reported: set[str] = set()
        while True:
            for name, server in self._servers.items():
                code, log_file = server.process.exit_code, server.process.how.log_file
                if code is None or name in reported:
                    continue
                if server.vital:
                    return f"{name} ended by itself (exit code {code}); see {log_file}"
                reported.add(name)
                self._report(agents.why_ended(name, code, log_file))
                self._save()
            await asyncio.sleep(0.5)

    # Faults

    async def kill(self, name: str) -> None:
        """End a server with SIGKILL and wait until it is gone; its data and port stay."""
        await self._servers[name].process.stop(kill=True)

    async def stop(self, name: str) -> None:
        """End a server in an orderly way."""
        await self._servers[name].process.stop()

    def pause(self, name: str) -> None:
        """Freeze a server (SIGSTOP)."""
        self._servers[name].process.send(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Continue a frozen server (SIGCONT)."""
        self._servers[name].process.send(signal.SIGCONT)

    async def restart(self, name: str) -> None:
        """Restart a server with the same port and data, and return when it is ready."""
        server = self._servers[name]
        await server.process.stop()
        server.process.start()
        await self._until_ready(name, server)
        self._save()

    async def revive(self) -> tuple[str, ...]:
        """Continue frozen servers and restart those that have ended. Return the names of the latter."""
        names = []
        for name, server in list(self._servers.items()):
            self.resume(name)
            if server.process.pid is None:
                await self.restart(name)
                names.append(name)
        return tuple(names)

    # Additions to the standard topics and bucket, for tests

    async def create_topics(
        self, prefix: str = "", *, partitions: int | None = None, specs: Iterable[TopicSpec] = TOPICS
    ) -> tuple[str, ...]:
        """Create every topic of `specs` with `prefix` before its name; return the names that were created."""
        count = self.options.partitions if partitions is None else partitions
        return await kafka_admin.create_topics(self.kafka, specs, partitions=count, prefix=prefix)

    async def notify_queue(self, bucket: str, queue: str) -> str:
        """Create a bucket whose notifications go to a queue (MiniStack); return the queue's address."""
        return await notify_queue(self.s3, bucket, queue)

    async def add_versitygw(self, name: str, topic: str, bucket: str) -> StoreAccess:
        """Start one more versitygw named `name` with `bucket`, whose notifications go to the existing `topic`."""
        binary = await asyncio.to_thread(store_servers.versitygw_binary, self.options, self._report)
        await self._start_versitygw(name, binary, topic, bucket, None)
        return StoreAccess(self._servers[name].endpoint, ACCESS_KEY, SECRET_KEY, REGION)

    async def add_connect(self) -> None:
        """Start a Kafka Connect worker that has no connector yet."""
        await self._start_connect(with_tables=False)

    async def remove(self, name: str) -> None:
        """End an added server and remove it."""
        server = self._servers.pop(name)
        await server.process.stop(kill=True)
        for lease in server.leases:
            lease.release()

    # Inside

    async def _prepare(self) -> None:
        options = self.options
        options.pid_dir.mkdir(parents=True, exist_ok=True)
        lock = (options.pid_dir / "stack.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            owner = living_owner(options.pid_dir)
            by = f" (pid {owner.pid})" if owner is not None else ""
            raise StartupRefused(
                f"a stack already runs in {options.var_dir}{by}; use it, or end it with `./sightline stack down`"
            ) from error
        self._lock = lock
        remove_state(options.var_dir)
        for name in await end_stale(options.pid_dir):
            self._report(f"ended {name}, left over from a stack that was killed")
        free_bytes = shutil.disk_usage(options.var_dir).free
        if free_bytes < options.min_free_bytes:
            raise StartupRefused(
                f"only {free_bytes / 1e9:.1f} GB free at {options.var_dir}, the stack needs "
                f"{options.min_free_bytes / 1e9:.1f} GB; free some space or set SIGHTLINE_STACK_VAR_DIR to another disk"
            )
        if options.fresh:
            shutil.rmtree(options.data_dir, ignore_errors=True)

    async def _start_all(self) -> None:
        options = self.options
        steps: list[Coroutine[Any, Any, None]] = []
        if options.with_redis:
            steps.append(self._start_redis())
        if options.with_kafka:
            steps.append(self._start_kafka())
        if options.with_registry:
            steps.append(self._start_registry())
        if options.with_s3:
            steps.append(self._start_store(options.s3))
        await _together(*steps)
        if options.with_lake:
            await self._start_connect(with_tables=True)
            await self._start_watch()

    async def _start_connect(self, *, with_tables: bool) -> None:
        """Start Connect and create its topics, the lake's bucket, tables and connectors. All other servers must run."""
        classpath = await asyncio.to_thread(connect.connect_jars, self.options, self._report)
        settings = load_settings(self.environment)
        self._refuse_tables_elsewhere()
        for address in (settings.lake.warehouse, settings.lake.archive):
            await create_bucket(self.s3, parse_folder(address)[0])
        if with_tables:
            await lake_setup.prepare(settings, partial(kafka_admin.ensure_topics, settings.kafka), self._report)
        else:
            await kafka_admin.ensure_topics(settings.kafka, LAKE_TOPICS)
        lease = lease_port(self.options.connect_port, "Kafka Connect")
        endpoint = f"http://{HOST}:{lease.port}"
        environment = worker_environment(settings, str(self._catalog_file), endpoint)
        how = await asyncio.to_thread(connect.connect_command, self.options, classpath, environment)

        async def answers() -> bool:
            if not await probes.accepts(lease.port):
                return False
            async with ConnectClient(endpoint) as client:
                return await client.answers()

        async def furnish() -> None:
            if with_tables:
                await lake_setup.apply_connectors(load_settings(self.environment), self._report)

        await self._launch(CONNECT, how, endpoint, answers, furnish, lease)

    async def _start_watch(self) -> None:
        """Start `lake watch`, because Connect never restarts a failed task."""
        lease = lease_port(None, "the watch of the lake")
        how = connect.watch_command(self.options, {**self.environment, "SIGHTLINE_WORKER_HTTP_PORT": str(lease.port)})

        async def answers() -> bool:
            return await probes.http_answers(lease.port, "/metrics")

        await self._launch(WATCH, how, f"http://{HOST}:{lease.port}/metrics", answers, _nothing, lease)

    async def _start_agents(self) -> None:
        """Start the agents and, once they serve, the API: both load models, and the agents have priority.

        The stack is published as soon as they run, so uploads may arrive while models load.
        """
        options = self.options
        self._api_lease = agents.api_lease(options)
        words = agents.agent_words(options, with_queue=bool(self._queue_url))
        started = [self._begin_agent(name, verb, lease_port(None, name)) for name, verb in words.items()]
        self._save()
        self._report(f"agents started: {', '.join(words)}; their logs: {options.log_dir}")
        await _together(*(self._until_ready(name, self._servers[name]) for name in started))
        api = self._begin_agent(agents.API, agents.api_words(options), self._api_lease)
        self._save()
        await _together(
            self._until_ready(api, self._servers[api]),
            ensure_key(options.var_dir, {**os.environ, **self.environment}, self._report),
        )

    def _begin_agent(self, name: str, words: tuple[str, ...], lease: PortLease) -> str:
        how = agents.agent_command(self.options, name, words, self.environment, lease.port)
        endpoint = f"http://{HOST}:{lease.port}"
        self._begin(
            name, how, endpoint, lambda: probes.http_answers(lease.port, "/healthz"), _nothing, lease, vital=False
        )
        return name

    def _refuse_tables_elsewhere(self) -> None:
        """Refuse a catalog whose tables are in the other S3 server: the sink's offsets say that they are written."""
        folder = self._catalog_file.parent
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "store"
        kind = kept.read_text().strip() if kept.exists() else self.options.s3
        if kind != self.options.s3:
            raise StartupRefused(
                f"the tables in {folder} lie in {kind}; start with `--s3 {kind}`, or begin anew with `--fresh`"
            )
        kept.write_text(kind + "\n")

    async def _start_kafka(self) -> None:
        classpath = await asyncio.to_thread(kafka.kafka_classpath, self.options, self._report)
        broker, controller = lease_port(self.options.kafka_port, "Kafka"), lease_port(None, "Kafka's controller")
        how = await asyncio.to_thread(kafka.kafka_command, self.options, classpath, broker.port, controller.port)
        endpoint = f"{HOST}:{broker.port}"

        async def answers() -> bool:
            return await probes.accepts(broker.port) and await kafka_admin.broker_answers(endpoint)

        async def furnish() -> None:
            specs = topics_of(self.options.tables)
            partitions, prefix = self.options.partitions, self.options.topic_prefix
            made = await kafka_admin.create_topics(endpoint, specs, partitions=partitions, prefix=prefix)
            await kafka_admin.check_topics(endpoint, specs, partitions=partitions, prefix=prefix)
            self._report(f"topics: {len(made)} created, {len(specs)} checked")
            self._topics_made.set()

        await self._launch(KAFKA, how, endpoint, answers, furnish, broker, controller)

    async def _start_registry(self) -> None:
        folder = await asyncio.to_thread(registry_server.registry_folder, self.options, self._report)
        lease = lease_port(self.options.registry_port, "the schema registry")
        endpoint = registry_server.registry_url(lease.port)

        async def answers() -> bool:
            if not await probes.accepts(lease.port):
                return False
            async with SchemaRegistry(endpoint) as registry:
                return await registry.answers()

        async def furnish() -> None:
            async with SchemaRegistry(endpoint) as registry:
                registered = await register_all(registry)
            refuse_other_ids(registered)
            self._report(
                f"schemas: {len({schema.answered_id for schema in registered})} registered, ids as in ids.lock"
            )

        how = await asyncio.to_thread(registry_server.registry_command, self.options, folder, lease.port)
        await self._launch(REGISTRY, how, endpoint, answers, furnish, lease)

    async def _start_redis(self) -> None:
        lease = lease_port(self.options.redis_port, "Redis")
        how = redis_server.redis_command(self.options, lease.port)
        await self._launch(
            REDIS, how, f"redis://{HOST}:{lease.port}/0", lambda: probes.redis_answers(lease.port), _nothing, lease
        )

    async def _start_store(self, kind: StoreKind) -> None:
        match kind:
            case "ministack":
                await self._start_ministack()
            case "versitygw":
                # Built while Kafka starts, started after its notification topic exists.
                binary = await asyncio.to_thread(store_servers.versitygw_binary, self.options, self._report)
                await self._topics_made.wait()
                topic = self.options.topic_prefix + UPLOADS
                await self._start_versitygw("versitygw", binary, topic, self.options.bucket, self.options.s3_port)

    async def _start_ministack(self) -> None:
        lease = lease_port(self.options.s3_port, "S3")
        endpoint = f"http://{HOST}:{lease.port}"

        async def furnish() -> None:
            access = StoreAccess(endpoint, ACCESS_KEY, SECRET_KEY, REGION)
            self._queue_url = await notify_queue(access, self.options.bucket, self.options.queue)
            self._report(store_servers.MINISTACK_NOTICE)

        await self._launch(
            "ministack",
            store_servers.ministack_command(self.options, lease.port),
            endpoint,
            lambda: probes.http_answers(lease.port, "/_ministack/health"),
            furnish,
            lease,
        )

    async def _start_versitygw(self, name: str, binary: Any, topic: str, bucket: str, port: int | None) -> None:
        lease = lease_port(port, "S3")
        endpoint = f"http://{HOST}:{lease.port}"

        async def furnish() -> None:
            await create_bucket(StoreAccess(endpoint, ACCESS_KEY, SECRET_KEY, REGION), bucket)

        how = store_servers.versitygw_command(self.options, binary, lease.port, self.kafka, topic, name)
        await self._launch(name, how, endpoint, lambda: probes.http_answers(lease.port), furnish, lease)

    async def _launch(
        self,
        name: str,
        how: ServerCommand,
        endpoint: str,
        answers: Callable[[], Awaitable[bool]],
        furnish: Callable[[], Awaitable[None]],
        *leases: PortLease,
    ) -> None:
        await self._until_ready(name, self._begin(name, how, endpoint, answers, furnish, *leases))

    def _begin(
        self,
        name: str,
        how: ServerCommand,
        endpoint: str,
        answers: Callable[[], Awaitable[bool]],
        furnish: Callable[[], Awaitable[None]],
        *leases: PortLease,
        vital: bool = True,
    ) -> _Server:
        server = _Server(ServerProcess(how, self.options.pid_dir), endpoint, answers, furnish, leases, vital)
        self._servers[name] = server
        server.process.start()
        return server

    async def _until_ready(self, name: str, server: _Server) -> None:
        started = time.monotonic()
        while not await server.answers():
            if server.process.exit_code is not None:
                raise StartupRefused(
                    f"{name} ended while starting (exit code {server.process.exit_code}): "
                    f"{server.process.last_lines()}; see {server.process.how.log_file}"
                )
            if time.monotonic() - started > self.options.ready_seconds:
                raise StartupRefused(
                    f"{name} was not ready after {self.options.ready_seconds:.0f} s; see {server.process.how.log_file}"
                )
            await asyncio.sleep(_PROBE_SECONDS)
        self._report(f"{name} ready at {server.endpoint} after {time.monotonic() - started:.1f} s")
        try:
            await server.furnish()
        except Retryable as error:
            raise StartupRefused(f"{name} stopped answering while it was set up: {error}") from error

    def _save(self) -> None:
        servers = tuple(
            ServerState(
                name,
                server.process.pid or 0,
                server.endpoint,
                str(server.process.how.log_file),
                None if server.vital else server.process.exit_code,
            )
            for name, server in self._servers.items()
        )
        owner = identify_process(os.getpid())
        save_state(self.options.var_dir, StackState(owner, self.options.s3, self.environment, servers, self._ready))

    async def _end_all(self) -> None:
        if self._lock is None:
            return  # refused before anything started: the running servers belong to another stack
        with suppress(OSError):
            remove_state(self.options.var_dir)
        # Agents finish their records while the broker runs; without it, Connect would wait for its tasks in vain.
        mine = [name for name, server in self._servers.items() if not server.vital]
        for names in (mine, [WATCH], [CONNECT], list(reversed(self._servers))):
            await asyncio.gather(*(self._servers[name].process.stop() for name in names if name in self._servers))
        for server in self._servers.values():
            for lease in server.leases:
                lease.release()
        if self._api_lease is not None:
            self._api_lease.release()
            self._api_lease = None
        self._servers.clear()
        self._lock.close()
        self._lock = None


async def _together(*steps: Coroutine[Any, Any, None]) -> None:
    """Run all steps. If one fails, the others are ended before its error is raised."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _nothing() -> None:
    """Create no contents."""
