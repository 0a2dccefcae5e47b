"""`./sightline records park|unpark|ls`."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

import typer

from app.exit_codes import ExitCode
from app.parking.parked import Park, Parking
from app.settings import load_settings
from app.systems.clock import SystemClock
from app.systems.kafka.admin import topic_id
from app.systems.kafka.groups import KafkaGroups
from app.systems.kafka.producer import KafkaProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.registry.avro import Codec
from app.verbs.output import JsonOption, show, show_each

_Topic = Annotated[str, typer.Argument(help="The topic, without a prefix (docs/topics.md).")]
_Partition = Annotated[int, typer.Argument(min=0, help="The partition.")]
_Offset = Annotated[int, typer.Argument(min=0, help="The offset of the record.")]
_Agent = Annotated[str, typer.Option(help="The agent that parks it, where more than one reads the topic.")]


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    group = typer.Typer(no_args_is_help=True, help="Park single records by hand, so that their agent passes them by.")
    group.command("park")(_park)
    group.command("unpark")(_unpark)
    group.command("ls")(_ls)
    cli.add_typer(group, name="records")


def _park(
    topic: _Topic, partition: _Partition, offset: _Offset, agent: _Agent = "", as_json: JsonOption = False
) -> None:
    """Park one offset: its agent makes a dead letter of the record, with its bytes, and does not handle it.

    A running worker knows within some seconds, a worker that starts before its first record. A record that is in hand
    already is not interrupted. Exit code 2 when the agent has passed the offset.
    """

    async def run() -> Park:
        async with _parking() as parking:
            return await parking.park(topic, partition, offset, agent)

    park = asyncio.run(run())
    words = f"{park.agent} parks {topic}/{partition}/{offset} as dead letter {park.letter_id}"
    show(as_json, park.summary(), [words])


def _unpark(
    topic: _Topic, partition: _Partition, offset: _Offset, agent: _Agent = "", as_json: JsonOption = False
) -> None:
    """Take a park back: the record is handled when its agent reaches it.

    When the agent has passed the offset, the record is a dead letter: redrive it. Exit code 1 then; 2 when the offset
    is not parked.
    """

    async def run() -> tuple[Park, bool]:
        async with _parking() as parking:
            return await parking.unpark(topic, partition, offset, agent)

    park, passed = asyncio.run(run())
    words = f"{park.agent} will handle {topic}/{partition}/{offset}"
    if passed:
        words = (
            f"{park.agent} has passed {topic}/{partition}/{offset}; the record is a dead letter: "
            f"./sightline dead-letters redrive {park.letter_id}"
        )
    show(as_json, park.summary() | {"passed": passed}, [words])
    raise typer.Exit(ExitCode.of_check(not passed))


def _ls(as_json: JsonOption = False) -> None:
    """List the parks that were not taken back, and whether their agent has passed them."""

    async def run() -> list[tuple[Park, bool]]:
        async with _parking() as parking:
            return await parking.ls()

    parks = asyncio.run(run())
    show_each(
        as_json, (park.summary() | {"passed": passed} for park, passed in parks), (_line(*each) for each in parks)
    )


def _line(park: Park, passed: bool) -> str:
    state = f"passed, dead letter {park.letter_id}" if passed else "waiting"
    return f"{park.topic}/{park.partition}/{park.offset}  {park.agent}  by {park.by}  {state}"


@asynccontextmanager
async def _parking() -> AsyncIterator[Parking]:
    kafka = load_settings(os.environ).kafka
    producer = KafkaProducer(kafka, "sightline-records")
    try:
        async with KafkaTopicLog(kafka) as log:
            groups, operator = KafkaGroups(kafka), f"{getpass.getuser()}@{socket.gethostname()}"
            yield Parking(log, groups, partial(topic_id, kafka), producer, Codec(), SystemClock(), operator)
    finally:
        await producer.close()
