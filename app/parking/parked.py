"""Records that an operator has parked: their agent makes dead letters of them without handling them.

A park is a record of `control.v1`, kind `parked`; every worker reads those of its agent at its start and every few
seconds. Parking is asynchronous: a worker that has the record in hand already goes on with it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agents import AGENTS
from app.domain import identity
from app.errors import ConfigurationError
from app.pipeline.control_topic import control_key, read_control
from app.ports.clock import Clock
from app.ports.publishing import Producer
from app.ports.records import RecordCodec
from app.ports.topics import ConsumerGroups, TopicLog
from app.topics import CONTROL, TOPICS, group_of
from schemas.records import ControlRecord, Position

PARKED_KIND: Final = "parked"
# Returns the id of a topic; empty if the broker has none. A topic that is created anew has another id.
TopicId = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Park:
    """One offset, parked or not any more. The topic is without the installation's prefix; its id guards against a topic
    that was made anew (empty: the broker tells none)."""

    agent: str
    topic: str
    partition: int
    offset: int
    topic_id: str
    parked: bool
    at_ms: int = 0
    by: str = ""

    @property
    def name(self) -> str:
        """The name of its control record."""
        return f"{self.agent}/{self.topic}/{self.partition}/{self.offset}"

    @property
    def letter_id(self) -> str:
        """The id of the dead letter that its agent makes."""
        return identity.letter_id(Position(self.topic, self.partition, self.offset), -1, self.agent)

    def summary(self) -> dict[str, Any]:
        """Return what `records ls --json` prints."""
        return {
            "agent": self.agent,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "at_ms": self.at_ms,
            "by": self.by,
            "letter_id": self.letter_id,
        }


def park_of(record: ControlRecord) -> Park | None:
    """Return the park in `record`; None when it is none or of another release."""
    agent, _, rest = record.name.partition("/")
    topic, _, place = rest.partition("/")
    partition, _, offset = place.partition("/")
    try:
        body = json.loads(record.body)
        topic_id, parked = str(body["topic_id"]), bool(body["parked"])
        return Park(
            agent, topic, int(partition), int(offset), topic_id, parked, record.written_at_ms, record.written_by
        )
    except (ValueError, KeyError, TypeError):
        return None


async def read_parks(log: TopicLog, codec: RecordCodec) -> list[Park]:
    """Return the parks that were not taken back, by agent and position. Raises as `TopicLog.scan` does."""
    records = (await read_control(log, codec, PARKED_KIND)).values()
    parks = [park for record in records if (park := park_of(record)) is not None and park.parked]
    return sorted(parks, key=lambda park: (park.agent, park.topic, park.partition, park.offset))


async def write_park(producer: Producer, codec: RecordCodec, clock: Clock, park: Park, operator: str) -> None:
    """Publish `park` and return when it is there. Raises BrokerUnavailable."""
    body = json.dumps({"parked": park.parked, "topic_id": park.topic_id})
    record = ControlRecord(PARKED_KIND, park.name, body, clock.now_ms(), operator)
    await producer.send_and_wait(CONTROL, control_key(PARKED_KIND, park.name), codec.encode(record))


def agent_of(topic: str, agent: str) -> str:
    """Return the agent that parks records of `topic`: the one named, or the only one that reads it.

    Raises ConfigurationError.
    """
    if topic not in {spec.name for spec in TOPICS}:
        raise ConfigurationError(f"no topic is called {topic!r}; docs/topics.md lists them, without a prefix")
    readers = [reader.name for reader in AGENTS if reader.parks and topic in reader.topics]
    if not readers:
        raise ConfigurationError(f"no agent that parks records reads {topic}")
    if agent and agent not in readers:
        raise ConfigurationError(f"{agent} does not read {topic}; its readers are {', '.join(readers)}")
    if not agent and len(readers) > 1:
        raise ConfigurationError(f"{topic} is read by {' and '.join(readers)}; name one of them with --agent")
    return agent or readers[0]


class Parking:
    """The work of `./sightline records`. Raises BrokerUnavailable and StartupRefused."""

    def __init__(
        self,
        log: TopicLog,
        groups: ConsumerGroups,
        topic_id: TopicId,
        producer: Producer,
        codec: RecordCodec,
        clock: Clock,
        operator: str,
    ) -> None:
        self._log = log
        self._groups = groups
        self._topic_id = topic_id
        self._producer = producer
        self._codec = codec
        self._clock = clock
        self._operator = operator

    async def park(self, topic: str, partition: int, offset: int, agent: str) -> Park:
        """Park one offset and return it. Raises ConfigurationError when the agent has passed it already."""
        park = await self._place(topic, partition, offset, agent, parked=True)
        done = (await self._committed([park.agent])).get((park.agent, topic, partition), 0)
        if offset < done:
            raise ConfigurationError(
                f"{park.agent} has passed {topic}/{partition}/{offset}: the next that it reads is {done}; its dead "
                f"letter, if there is one, begins with {park.letter_id[:12]}"
            )
        await write_park(self._producer, self._codec, self._clock, park, self._operator)
        return park

    async def unpark(self, topic: str, partition: int, offset: int, agent: str) -> tuple[Park, bool]:
        """Take a park back and return it, and whether its agent has passed the offset, so that a letter is there.

        Raises ConfigurationError when it is not parked.
        """
        park = await self._place(topic, partition, offset, agent, parked=False)
        if park.name not in {one.name for one in await read_parks(self._log, self._codec)}:
            raise ConfigurationError(f"{park.agent} has not parked {topic}/{partition}/{offset}")
        await write_park(self._producer, self._codec, self._clock, park, self._operator)
        done = (await self._committed([park.agent])).get((park.agent, topic, partition), 0)
        return park, offset < done

    async def ls(self) -> list[tuple[Park, bool]]:
        """Return all parks, and of each whether its agent has passed it."""
        parks = await read_parks(self._log, self._codec)
        done = await self._committed(sorted({park.agent for park in parks}))
        return [(park, park.offset < done.get((park.agent, park.topic, park.partition), 0)) for park in parks]

    async def _place(self, topic: str, partition: int, offset: int, agent: str, *, parked: bool) -> Park:
        agent = agent_of(topic, agent)
        starts = await self._log.starts(topic)
        if partition not in starts:
            raise ConfigurationError(f"{topic} has no partition {partition}; it has {len(starts)}")
        topic_id = await self._topic_id(topic)
        return Park(agent, topic, partition, offset, topic_id, parked, self._clock.now_ms(), self._operator)

    async def _committed(self, agents: Sequence[str]) -> dict[tuple[str, str, int], int]:
        committed = await self._groups.committed([group_of(agent) for agent in agents])
        return {
            (agent, topic, number): offset
            for agent in agents
            for (topic, number), offset in committed[group_of(agent)].items()
        }
