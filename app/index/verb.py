"""`./sightline index get|rebuild`: the latest outcome per image."""

from __future__ import annotations

import dataclasses
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from app.domain.places import parse_image
from app.exit_codes import ExitCode
from app.index.rebuild import RebuildProgress, rebuild
from app.moderation.redis_queue import RedisQueue
from app.pipeline.index import ImageFacts
from app.verbs.operator import Operator, with_operator
from app.verbs.output import JsonOption, show
from app.verbs.record_json import plain_flag, plain_prediction


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    index = typer.Typer(no_args_is_help=True, help="The index of latest outcomes (Redis): look one up, rebuild it.")
    index.command("get")(_get)
    index.command("rebuild")(_rebuild)
    cli.add_typer(index, name="index")


def _get(
    place: Annotated[str, typer.Argument(help="s3://bucket/key, or sha256:DIGEST for the latest outcome of bytes.")],
    as_json: JsonOption = False,
) -> None:
    """Print the latest outcome and flag of one image. Exit code 1 when the index knows nothing of it."""
    facts = with_operator(lambda world: _read(world, place))
    if facts is None:
        show(as_json, {"known": False}, [f"{place}: nothing known"])
        raise typer.Exit(ExitCode.FINDING)
    show(as_json, facts, [_words(place, facts)])


async def _read(world: Operator, place: str) -> dict[str, Any] | None:
    if place.startswith("sha256:"):
        outcome = await world.index.content(place.removeprefix("sha256:").lower())
        return None if outcome is None else {"known": True, "prediction": plain_prediction(outcome)}
    image = await world.index.image(*parse_image(place))
    if image is None:
        return None
    return {
        "known": True,
        "removed_at_ms": image.removed_at_ms,
        "prediction": None if image.prediction is None else plain_prediction(image.prediction),
        "flag": None if image.flag is None else plain_flag(image.flag),
        "decision": None if image.decision is None else dataclasses.asdict(image.decision),
        "pending": None if image.pending is None else dataclasses.asdict(image.pending),
    }


def _words(place: str, facts: dict[str, Any]) -> str:
    prediction, flag = facts["prediction"], facts.get("flag")
    pending, decision = facts.get("pending"), facts.get("decision")
    under_way = f"upload {pending['upload_id']} is under way" if pending else ""
    if prediction is None and facts.get("removed_at_ms") is None:
        return f"{place}: {under_way}"
    if prediction is None:
        return f"{place}: removed (event time {facts['removed_at_ms']} ms)"
    reason = f" ({prediction['reason']})" if prediction["reason"] else ""
    lines = [f"{place}: {prediction['outcome']}{reason}, sha256 {prediction['sha256'] or 'unknown'}"]
    for model, labels in prediction["scores"].items():
        version = prediction["model_versions"][model]
        scores = ", ".join(f"{label} {value:.3f}" for label, value in labels.items())
        lines.append(f"  {model} {version}: {scores}")
    if flag is not None:
        lines.append(f"  {flag['state']}: {flag['action']} by policy {flag['policy']} {flag['policy_version']}")
        lines.extend(f"    {rule['rule']}: {rule['explanation']}" for rule in flag["rules"])
    if decision is not None:
        reason = f" ({decision['reason']})" if decision["reason"] else ""
        lines.append(f"  decided by {decision['moderator']}: {decision['decision']}{reason}")
    if under_way:
        lines.append(f"  a later {under_way}")
    return "\n".join(lines)


def _rebuild(as_json: JsonOption = False) -> None:
    """Fill Redis from the topics: removals, outcomes, decisions, flags. Safe beside running workers and to repeat."""
    began = time.monotonic()
    stored = with_operator(lambda world: _fill(world, as_json))
    seconds = time.monotonic() - began
    total = sum(stored.values())
    words = f"{total} records stored in {seconds:.1f} s ({total / max(seconds, 0.001):.0f}/s): {stored}"
    show(as_json, {"stored": stored, "seconds": round(seconds, 2)}, [words])


async def _fill(world: Operator, quiet: bool) -> dict[str, int]:
    settings = world.settings
    queue = world.closed(RedisQueue(settings.redis, settings.moderation, world.clock))
    facts = ImageFacts(world.index, queue, settings.moderation.actions)
    with Progress(console=Console(stderr=True), disable=quiet) as bar:
        tasks: dict[str, Any] = {}

        def report(progress: RebuildProgress) -> None:
            if progress.topic not in tasks:
                tasks[progress.topic] = bar.add_task(progress.topic, total=progress.expected)
            bar.update(tasks[progress.topic], completed=progress.stored)

        return await rebuild(world.log, world.codec, facts, world.clock, report)
