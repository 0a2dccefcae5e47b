"""The Faust side of every agent: iterate without acknowledging, and hand each message to the pump."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import faust

from app.errors import DeliveryGap
from app.ports.records import SourceRecord
from app.streaming.ports import Delivered, SourcePartition


class Intake(Protocol):
    """Where an agent puts what it reads: a pump."""

    async def put(self, message: Delivered) -> None:
        """Return when the message is in hand."""
        ...


class AgentHost(Protocol):
    """What an agent needs of its worker."""

    def topic_name(self, topic: str) -> str:
        """Return the name of a topic of app/topics.py as Kafka knows it."""
        ...

    @property
    def sources(self) -> Sequence[str]:
        """The topics that this worker reads."""
        ...

    def intake(self, topic: str) -> Intake:
        """Return the pump of a topic of app/topics.py."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether the end of a stream is expected."""
        ...

    @property
    def on_failure(self) -> Callable[[BaseException], None]:
        """What ends the process."""
        ...


def attach(app: faust.App, host: AgentHost, agent: str) -> None:
    """Add a Faust agent for each source of the worker of `agent`."""
    for topic in host.sources:
        _attach_pump(app, host, topic, f"{agent}-{topic}")


def _attach_pump(app: faust.App, host: AgentHost, topic: str, name: str) -> None:
    """Add an agent that pumps `topic`. It never returns, and raises only to end the process."""
    intake = host.intake(topic)

    async def pump(stream: Any) -> None:
        try:
            async for event in stream.noack().events():
                await intake.put(_delivered(event.message, topic))
        except BaseException as error:
            if not host.stopping:
                host.on_failure(error)
            raise
        if not host.stopping:
            host.on_failure(DeliveryGap(f"the stream of {topic} ended"))

    source = app.topic(host.topic_name(topic), key_serializer="raw", value_serializer="raw")
    app.agent(source, name=name)(pump)


def _delivered(message: Any, topic: str) -> Delivered:
    record = SourceRecord(
        topic, message.partition, message.offset, round(message.timestamp * 1000), message.key, message.value
    )
    return Delivered(SourcePartition(message.topic, message.partition), record, message.generation_id)
