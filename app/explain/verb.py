"""`./sightline explain s3://bucket/key`: the whole story of one image."""

from __future__ import annotations

from typing import Annotated

import typer

from app.domain.places import parse_image
from app.exit_codes import ExitCode
from app.explain.explain import ExplainParts, Story, explain
from app.explain.story import story_as_json, story_in_words
from app.settings import ROOT
from app.verbs.operator import Operator, with_operator
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
    story = with_operator(lambda world: _tell(world, place, days, seconds))
    show(as_json, story_as_json(story), [story_in_words(story)])
    raise typer.Exit(ExitCode.of_check(story.known))


async def _tell(world: Operator, place: str, days: float, seconds: float) -> Story:
    bucket, key = parse_image(place)
    parts = ExplainParts(
        log=world.log,
        index=world.index,
        codec=world.codec,
        clock=world.clock,
        policies_dir=ROOT / "policies",
        policy_path=world.settings.policy.path,
        days=days,
        scan_seconds=seconds,
    )
    return await explain(parts, bucket, key)
