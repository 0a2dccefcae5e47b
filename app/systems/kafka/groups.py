"""The progress of consumer groups: committed offsets and backlogs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Final

from app.errors import BrokerUnavailable
from app.ports.topics import Backlog, Part, of_topic
from app.settings import KafkaSettings
from app.systems.kafka.lag import read_backlogs
from app.systems.unreachable import kafka_unreachable

_REQUEST_TIMEOUT_MS: Final = 20_000
_ANSWER_SECONDS: Final = 30.0
_COORDINATOR_SECONDS: Final = 0.3


class KafkaGroups:
    """See ConsumerGroups (app.ports.topics). Each call makes its own connection."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    async def committed(self, groups: Sequence[str]) -> dict[str, dict[Part, int]]:
        """See ConsumerGroups."""
        return await _committed(self._settings, groups)

    async def backlogs(self, pairs: Sequence[tuple[str, str]]) -> tuple[Backlog, ...]:
        """See ConsumerGroups."""
        committed = await self.committed(tuple(dict.fromkeys(group for group, _ in pairs)))
        return await read_backlogs(self._settings, pairs, committed)


async def _committed(settings: KafkaSettings, groups: Sequence[str]) -> dict[str, dict[Part, int]]:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

    client = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    offsets_of: dict[str, dict[Part, int]] = {}
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await client.start()
            for group in groups:
                while group not in offsets_of:
                    try:
                        offsets = await client.list_consumer_group_offsets(settings.prefix + group)
                    except GroupCoordinatorNotAvailableError:
                        # A broker without any group yet creates the topic of offsets at the first request.
                        await asyncio.sleep(_COORDINATOR_SECONDS)
                        continue
                    offsets_of[group] = {
                        (part.topic.removeprefix(settings.prefix), part.partition): at.offset
                        for part, at in offsets.items()
                        if at.offset >= 0
                    }
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerUnavailable(kafka_unreachable(settings.bootstrap, error)) from error
    finally:
        await client.close()
    return offsets_of


async def sink_offsets(settings: KafkaSettings, connector: str, topic: str) -> dict[int, int]:
    """Return the next offset that a connector of Kafka Connect would read, by partition of its topic.

    Names are without the prefix. Connect puts the prefix inside the group's name: connect-<prefix><connector>. A
    partition without a commit is absent. Raises BrokerUnavailable.
    """
    group = f"connect-{settings.prefix}{connector}"
    without_prefix = dataclasses.replace(settings, prefix="")
    return of_topic((await _committed(without_prefix, (group,)))[group], settings.prefix + topic)
