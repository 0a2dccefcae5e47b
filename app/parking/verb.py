"""`./sightline records park|unpark|ls`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from app.exit_codes import ExitCode
from app.parking.parked import Park, Parking
from app.systems.kafka.admin import topic_id
from app.verbs.operator import Operator, with_operator
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
    park = with_operator(lambda world: _parking(world).park(topic, partition, offset, agent))
    words = f"{park.agent} parks {topic}/{partition}/{offset} as dead letter {park.letter_id}"
    show(as_json, park.summary(), [words])


def _unpark(
    topic: _Topic, partition: _Partition, offset: _Offset, agent: _Agent = "", as_json: JsonOption = False
) -> None:
    """Take a park back: the record is handled when its agent reaches it.

    When the agent has passed the offset, the record is a dead letter: redrive it. Exit code 1 then; 2 when the offset
    is not parked.
    """
    park, passed = with_operator(lambda world: _parking(world).unpark(topic, partition, offset, agent))
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
    parks = with_operator(lambda world: _parking(world).ls())
    show_each(
        as_json, (park.summary() | {"passed": passed} for park, passed in parks), (_line(*each) for each in parks)
    )


def _line(park: Park, passed: bool) -> str:
    state = f"passed, dead letter {park.letter_id}" if passed else "waiting"
    return f"{park.topic}/{park.partition}/{park.offset}  {park.agent}  by {park.by}  {state}"


def _parking(world: Operator) -> Parking:
    topics, producer = partial(topic_id, world.settings.kafka), world.producer("sightline-records")
    return Parking(world.log, world.groups, topics, producer, world.codec, world.clock, world.name)
