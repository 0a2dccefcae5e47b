"""`./sightline archive`: what lies in the archive of raw records, whether it is whole, and reading it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated

import typer

from app.archive.partitions import ObjectArchive
from app.archive.reader import ArchiveReader
from app.archive.upkeep import ArchivedPartition, Comparison, archived, replay, verify
from app.domain.archive import ARCHIVABLE
from app.domain.places import parse_folder
from app.errors import ConfigurationError
from app.exit_codes import ExitCode
from app.systems.clock import SystemClock
from app.systems.s3.write import S3WriteStore
from app.topics import TOPICS
from app.verbs.operator import Operator, with_operator
from app.verbs.output import JsonOption, show
from app.verbs.times import moment_ms

_Topic = Annotated[str, typer.Option("--topic", help="One topic only, such as image.predictions.v1.")]


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    archive = typer.Typer(
        no_args_is_help=True,
        help="The archive of raw records that the agent `archive` writes: Parquet files on S3, one for each range.",
    )
    archive.command("ls")(_ls)
    archive.command("verify")(_verify)
    archive.command("replay")(_replay)
    cli.add_typer(archive, name="archive")


def _ls(topic: _Topic = "", as_json: JsonOption = False) -> None:
    """Print what is archived of each partition. Exit code 1 on a hole or an overlap.

    A hole is a range that no file covers, or whose records were gone from the topic before they were archived. Where
    the archive begins is none. Asks the store for each file, some thousand a second.
    """
    held = with_operator(lambda world: archived(_archive(world), _topics(topic), world.settings.kafka.prefix))
    show(as_json, {"partitions": [asdict(each) for each in held]}, _partitions_in_words(held))
    raise typer.Exit(ExitCode.of_check(not any(each.faults for each in held)))


def _partitions_in_words(held: list[ArchivedPartition]) -> Iterator[str]:
    for each in held:
        yield (
            f"{each.topic}/{each.partition}: offsets {each.start} to {each.end}, {each.records} records in "
            f"{each.files} files, {each.size_bytes} bytes"
        )
        for fault in each.faults:
            yield f"  {fault.kind}: offsets {fault.start} to {fault.end}"
    if not held:
        yield "nothing is archived"


def _verify(topic: _Topic = "", as_json: JsonOption = False) -> None:
    """Compare the archive with the topics where they still hold the records: the same bytes at every offset.

    Exit code 1 on any difference, hole or overlap. Reads both, each record once.
    """
    held, comparisons = with_operator(lambda world: _compare(world, topic))
    good = all(each.agrees for each in comparisons) and not any(each.faults for each in held)
    show(
        as_json,
        {"agrees": good, "topics": [asdict(each) for each in comparisons]},
        _comparison_in_words(held, comparisons),
    )
    raise typer.Exit(ExitCode.of_check(good))


def _comparison_in_words(held: list[ArchivedPartition], comparisons: list[Comparison]) -> Iterator[str]:
    for each in comparisons:
        yield (
            f"{each.topic}: {each.compared} records compared, missing={each.missing} different={each.different} "
            f"foreign={each.foreign}"
        )
        for kind, positions in each.examples.items():
            yield f"  {kind}: {', '.join(str(position) for position in positions)}"
    for partition in held:
        for fault in partition.faults:
            yield f"  {partition.topic}/{partition.partition}: {fault.kind}, offsets {fault.start} to {fault.end}"


def _replay(
    topic: Annotated[str, typer.Option("--topic", help="The archived topic.")],
    to: Annotated[str, typer.Option("--to", help="The topic to publish to; it must exist and be none of ours.")],
    since: Annotated[
        str, typer.Option(help="Only records published since this time (2026-11-23T09:15, UTC) or since 2h ago.")
    ] = "",
    until: Annotated[str, typer.Option(help="Only records published before this time.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Publish archived records to another topic: same keys, same bytes, at least once each.

    Order holds within a key if the topic has as many partitions as the archived one had.
    """
    if to in {spec.name for spec in TOPICS}:
        raise ConfigurationError(f"--to {to}: the pipeline reads that topic and would take every record for a new one")
    now_ms = SystemClock().now_ms()
    since_ms = moment_ms(since, "--since", now_ms) if since else None
    until_ms = moment_ms(until, "--until", now_ms) if until else None
    sent = with_operator(lambda world: _publish(world, topic, to, since_ms, until_ms))
    show(as_json, {"published": sent}, [f"{sent} records published to {to}"])


def _archive(world: Operator) -> ObjectArchive:
    return ObjectArchive(world.closed(S3WriteStore(world.settings.s3)), *parse_folder(world.settings.lake.archive))


def _topics(topic: str) -> tuple[str, ...]:
    """Return the topics to look at: all that may be archived, or the one that was named."""
    if topic and topic not in ARCHIVABLE:
        raise ConfigurationError(f"--topic {topic}: archived are {', '.join(ARCHIVABLE)}")
    return (topic,) if topic else ARCHIVABLE


async def _compare(world: Operator, topic: str) -> tuple[list[ArchivedPartition], list[Comparison]]:
    archive, prefix = _archive(world), world.settings.kafka.prefix
    held = await archived(archive, _topics(topic), prefix)
    topics = sorted({each.topic for each in held})
    return held, [await verify(ArchiveReader(archive, prefix), world.log, held, name) for name in topics]


async def _publish(world: Operator, topic: str, to: str, since_ms: int | None, until_ms: int | None) -> int:
    reader = ArchiveReader(_archive(world), world.settings.kafka.prefix)
    async with aclosing(reader.read(*_topics(topic), since_ms=since_ms, until_ms=until_ms)) as records:
        return await replay(records, world.producer(), to)
