"""Kafka's admin side: create the topics of app/topics.py and refuse a cluster whose topics are not as declared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from app.errors import BrokerUnavailable, StartupRefused
from app.settings import KafkaSettings
from app.systems.unreachable import kafka_unreachable, said_once
from app.topics import DAY_MS, FOREVER_MS, TOPICS, TableSpec, TopicSpec

_REQUEST_TIMEOUT_MS: Final = 15_000
_POLL_SECONDS: Final = 0.05
INIT_COMMAND: Final = "./sightline stack init"


@dataclass(frozen=True, slots=True)
class TopicLayout:
    """How one topic lies on a cluster. `config` holds topic settings by Kafka's own names."""

    name: str
    partitions: int
    config: Mapping[str, str]


def layout_of(spec: TopicSpec, partitions: int, prefix: str = "") -> TopicLayout:
    """Return the layout of a row of topics.py: `partitions` unless it is single, `prefix` before its name."""
    config = {"cleanup.policy": spec.cleanup}
    if "delete" in spec.cleanup.split(","):
        config["retention.ms"] = str(spec.retention_ms)
    return TopicLayout(prefix + spec.name, 1 if spec.single else partitions, config)


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[Any]:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    with said_once():
        try:
            await client.start()
            yield client
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(kafka_unreachable(bootstrap, error)) from error
        finally:
            await client.close()


async def broker_answers(bootstrap: str) -> bool:
    """Whether a broker that has finished its start serves metadata at `bootstrap`. Never raises for a silent one."""
    try:
        async with _admin(bootstrap) as admin:
            cluster = await admin.describe_cluster()
            return bool(cluster["brokers"])
    except BrokerUnavailable:
        return False


async def create_topics(
    bootstrap: str, specs: Iterable[TopicSpec] = TOPICS, *, partitions: int, prefix: str = "", replication: int = 1
) -> tuple[str, ...]:
    """Create what is absent, leave what exists alone, and return the names that were created.

    Raises BrokerUnavailable; StartupRefused when the broker refuses a topic.
    """
    from aiokafka.admin import NewTopic
    from aiokafka.errors import TopicAlreadyExistsError, for_code

    async with _admin(bootstrap) as admin:
        existing = set(await admin.list_topics())
        layouts = [layout_of(spec, partitions, prefix) for spec in specs]
        absent = [layout for layout in layouts if layout.name not in existing]
        if not absent:
            return ()
        answer = await admin.create_topics(
            [
                NewTopic(layout.name, layout.partitions, replication, topic_configs=dict(layout.config))
                for layout in absent
            ]
        )
        for name, code, *message in answer.topic_errors:
            # Two starters at once: the other one's topic is as good, and is checked afterwards.
            if code not in (0, TopicAlreadyExistsError.errno):
                raise StartupRefused(f"the broker refuses topic {name}: {for_code(code).__name__} {message}")
        # The controller has answered, but the broker learns of the topics a little later.
        async with asyncio.timeout(_REQUEST_TIMEOUT_MS / 1000):
            while not {layout.name for layout in absent} <= set(await admin.list_topics()):  # noqa: ASYNC110 (remote)
                await asyncio.sleep(_POLL_SECONDS)
    return tuple(layout.name for layout in absent)


async def delete_topics(bootstrap: str, names: Iterable[str]) -> None:
    """Delete topics; absent ones are ignored. Raises BrokerUnavailable."""
    async with _admin(bootstrap) as admin:
        await admin.delete_topics(list(names))


async def topic_partitions(bootstrap: str) -> dict[str, int]:
    """Return the partition count of every topic. Raises BrokerUnavailable."""
    async with _admin(bootstrap) as admin:
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


async def topic_ids(bootstrap: str, names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return the cluster's id and the id of each topic; a topic made anew under its name has another id.

    Ids are empty where the broker (before Kafka 3.1) tells none. Raises StartupRefused for a topic that does not exist;
    BrokerUnavailable.
    """
    from app.systems.kafka.metadata import TopicIdsRequest

    wanted = sorted(names)
    async with _admin(bootstrap) as admin:
        cluster = str((await admin.describe_cluster())["cluster_id"] or "")
        try:
            answer = await admin._send_request(TopicIdsRequest(wanted))
        except NotImplementedError:
            return cluster, dict.fromkeys(wanted, "")
    # Each row begins with error code, name, id.
    found = {row[1]: str(row[2]) for row in answer.topics if row[2].int}
    for name in wanted:
        if name not in found:
            raise StartupRefused(f"topic {name} does not exist at {bootstrap}; run `{INIT_COMMAND}`")
    return cluster, found


async def ensure_topics(settings: KafkaSettings, specs: Iterable[TopicSpec]) -> tuple[str, ...]:
    """Create the absent ones of `specs` as the settings say, check all of them and return the names of the new ones.

    Raises as `create_topics` and `check_topics` do.
    """
    specs, partitions, prefix = tuple(specs), settings.partitions, settings.prefix
    created = await create_topics(
        settings.bootstrap, specs, partitions=partitions, prefix=prefix, replication=settings.replication
    )
    await check_topics(settings.bootstrap, specs, partitions=partitions, prefix=prefix)
    return created


async def topic_id(settings: KafkaSettings, topic: str) -> str:
    """Return the id of `topic` (without the installation's prefix). See `topic_ids`."""
    name = settings.prefix + topic
    _, ids = await topic_ids(settings.bootstrap, [name])
    return ids[name]


async def check_topics(
    bootstrap: str, specs: Iterable[TopicSpec] = TOPICS, *, partitions: int, prefix: str = ""
) -> None:
    """Return when every topic exists with its partition count and cleanup policy, and keeps its table long enough.

    Raises StartupRefused naming the topic, what is wrong and the command that mends it; BrokerUnavailable.
    """
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    specs = tuple(specs)
    wanted = [layout_of(spec, partitions, prefix) for spec in specs]
    async with _admin(bootstrap) as admin:
        counts = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
        for layout in wanted:
            if layout.name not in counts:
                raise StartupRefused(f"topic {layout.name} does not exist at {bootstrap}; run `{INIT_COMMAND}`")
            if counts[layout.name] != layout.partitions:
                raise StartupRefused(
                    f"topic {layout.name} has {counts[layout.name]} partitions, expected {layout.partitions}; "
                    "set SIGHTLINE_KAFKA_PARTITIONS to the true count, or delete the topic and run "
                    f"`{INIT_COMMAND}` (tables are partitioned with it, so a count is never changed in place)"
                )
        answers = await admin.describe_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, layout.name, {"cleanup.policy": "", "retention.ms": ""})
                for layout in wanted
            ]
        )
    configs = {
        resource[3]: {entry[0]: str(entry[1]) for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }
    for spec, layout in zip(specs, wanted, strict=True):
        expected, found = layout.config["cleanup.policy"], configs[layout.name].get("cleanup.policy", "")
        if set(expected.split(",")) != set(found.split(",")):
            raise StartupRefused(
                f"topic {layout.name} has cleanup.policy={found}, expected {expected}; run `kafka-configs "
                f"--bootstrap-server {bootstrap} --alter --topic {layout.name} "
                f"--add-config cleanup.policy=[{expected}]`"
            )
        if spec.table is not None:
            _refuse_shorter(bootstrap, spec, spec.table, layout, int(configs[layout.name]["retention.ms"]))


def _refuse_shorter(bootstrap: str, spec: TopicSpec, table: TableSpec, layout: TopicLayout, kept_ms: int) -> None:
    """Refuse a changelog that forgets before its table does: a new disk would not know what the old one knew."""
    if kept_ms == FOREVER_MS or kept_ms >= spec.retention_ms:
        return
    raise StartupRefused(
        f"topic {layout.name} keeps {kept_ms / DAY_MS:g} days, less than SIGHTLINE_TABLES_{table.kept_as.upper()}="
        f"{spec.retention_ms / DAY_MS:g}; set that to {kept_ms / DAY_MS:g} at most, or run `kafka-configs "
        f"--bootstrap-server {bootstrap} --alter --topic {layout.name} --add-config retention.ms={spec.retention_ms}`"
    )
