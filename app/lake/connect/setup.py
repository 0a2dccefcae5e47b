"""Set-up of the lake: topics of Connect, tables, connectors. Idempotent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from app.lake.connect.client import ConnectClient
from app.lake.connect.config import connector_configs
from app.settings import Settings
from app.topics import LAKE_TOPICS, TopicSpec

# Creates topics that do not exist, checks all of them and returns the names of the new ones.
EnsureTopics = Callable[[Sequence[TopicSpec]], Awaitable[tuple[str, ...]]]


async def prepare(settings: Settings, ensure_topics: EnsureTopics, report: Callable[[str], None]) -> None:
    """Create what Connect needs before its first row: topics, tables and their new columns.

    Raises BrokerUnavailable, StartupRefused, LakeUnavailable, ConfigurationError.
    """
    from app.lake.iceberg.catalog import create_tables, open_catalog

    topics = await ensure_topics(LAKE_TOPICS)
    report(f"topics of the lake: {len(topics)} created, {len(LAKE_TOPICS)} checked")
    tables = await asyncio.to_thread(lambda: create_tables(open_catalog(settings), settings))
    report(f"tables: {', '.join(tables) if tables else 'all there'}")


async def apply_connectors(settings: Settings, report: Callable[[str], None]) -> None:
    """Create or change all connectors as the settings say. Raises LakeUnavailable, ConfigurationError."""
    async with ConnectClient(settings.lake.connect_url) as connect:
        changed = [name for name, config in connector_configs(settings).items() if await connect.apply(name, config)]
    report(f"connectors: {', '.join(changed) + ' applied' if changed else 'all as configured'}")
