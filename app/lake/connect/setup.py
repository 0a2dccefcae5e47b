"""Set-up of the lake: topics of Connect, tables, connectors. Idempotent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.lake.connect.client import ConnectClient
from app.lake.connect.config import connector_configs
from app.settings import Settings
from app.systems.kafka import admin as kafka_admin
from app.topics import LAKE_TOPICS


async def create_lake_topics(settings: Settings) -> tuple[str, ...]:
    """Create and check the topics of Connect and of its connectors; return the new ones.

    Raises BrokerUnavailable, StartupRefused.
    """
    kafka = settings.kafka
    made = await kafka_admin.create_topics(
        kafka.bootstrap,
        LAKE_TOPICS,
        partitions=kafka.partitions,
        prefix=kafka.prefix,
        replication=kafka.replication,
    )
    await kafka_admin.check_topics(kafka.bootstrap, LAKE_TOPICS, partitions=kafka.partitions, prefix=kafka.prefix)
    return made


async def prepare(settings: Settings, report: Callable[[str], None]) -> None:
    """Create what Connect needs before its first row: topics, tables and their new columns.

    Raises BrokerUnavailable, StartupRefused, LakeUnavailable, ConfigurationError.
    """
    from app.lake.iceberg.catalog import create_tables, open_catalog

    topics = await create_lake_topics(settings)
    report(f"topics of the lake: {len(topics)} created, {len(LAKE_TOPICS)} checked")
    tables = await asyncio.to_thread(lambda: create_tables(open_catalog(settings), settings))
    report(f"tables: {', '.join(tables) if tables else 'all there'}")


async def apply_connectors(settings: Settings, report: Callable[[str], None]) -> None:
    """Create or change all connectors as the settings say. Raises LakeUnavailable, ConfigurationError."""
    async with ConnectClient(settings.lake.connect_url) as connect:
        changed = [name for name, config in connector_configs(settings).items() if await connect.apply(name, config)]
    report(f"connectors: {', '.join(changed) + ' applied' if changed else 'all as configured'}")
