"""`./sightline explain s3://bucket/key`: the whole story of one image."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from app.domain.places import parse_image
from app.exit_codes import ExitCode
from app.explain.explain import ExplainParts, Story, explain
from app.explain.story import story_as_json, story_in_words
from app.settings import ROOT, Settings, load_settings
from app.systems.clock import SystemClock
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.redis.index import RedisIndex
from app.systems.registry.avro import Codec
from app.verbs.output import JsonOption, show


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    cli.command("explain")(_explain)


def _explain(
    place: Annotated[str, typer.Argument(help="The image: s3://bucket/key.")],
    days: Annotated[float, typer.Option(min=0.01, help="How far back the topics are read, in days.")] = 30.0,
    seconds: Annotated[float, typer.Option(min=1.0, help="For how long they are read at most, in seconds.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Tell the story of one image: event, fetch, digest, scores, rules as they were then, timings, history.

    Read from the index and the topics; either is enough. Exit code 1 when nothing is known of the image.
    """
    story = asyncio.run(_tell(load_settings(os.environ), place, days, seconds))
    show(as_json, story_as_json(story), [story_in_words(story)])
    raise typer.Exit(ExitCode.of_check(story.known))


async def _tell(settings: Settings, place: str, days: float, seconds: float) -> Story:
    bucket, key = parse_image(place)
    codec = Codec()
    index = RedisIndex(settings.redis, codec)
    parts = ExplainParts(
        log=KafkaTopicLog(settings.kafka),
        index=index,
        codec=codec,
        clock=SystemClock(),
        policies_dir=ROOT / "policies",
        policy_path=settings.policy.path,
        days=days,
        scan_seconds=seconds,
    )
    try:
        return await explain(parts, bucket, key)
    finally:
        await index.close()
