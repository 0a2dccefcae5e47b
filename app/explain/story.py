"""A story in words, and as one JSON object."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

from app.domain.renditions import rendition_in_words
from app.explain.explain import Story
from app.verbs.record_json import plain_flag, plain_prediction
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, LabelScore, Position, Rendition


def story_as_json(story: Story) -> dict[str, Any]:
    """Return the story as plain values; times in Unix milliseconds."""
    ruling = story.ruling
    return {
        "place": f"s3://{story.bucket}/{story.key}",
        "known": story.known,
        "removed": None if story.removed is None else dataclasses.asdict(story.removed),
        "outcome": None if story.latest is None else plain_prediction(story.latest),
        "flag": None if story.flag is None else plain_flag(story.flag),
        "policy": None
        if ruling is None
        else {
            "name": ruling.policy.name,
            "version": ruling.policy.full_version,
            "found": ruling.why,
            "action": ruling.action,
            "agrees_with_flag": ruling.agrees,
        },
        "rules": [] if ruling is None else [dataclasses.asdict(report) for report in ruling.reports],
        "event": _event(story.event),
        "task": None
        if story.task is None
        else {
            "attempt": story.task.attempt,
            "lane": story.task.lane,
            "identified_at_ms": story.task.identified_at_ms,
            "defer_reason": story.task.defer_reason,
            "job_id": story.task.job_id,
            "known_sha256": story.task.known_sha256,
        },
        "history": [
            {
                "upload_id": outcome.upload_id,
                "outcome": outcome.outcome,
                "reason": outcome.reason,
                "sha256": outcome.sha256,
                "scored_at_ms": outcome.scored_at_ms,
                "event_time_ms": outcome.event_time_ms,
                "order_key": outcome.order_key,
                "job_id": outcome.job_id,
                "cached": outcome.cached,
            }
            for outcome in story.outcomes
        ],
        "flags": [plain_flag(flag) for flag in story.flags],
        "removals": [dataclasses.asdict(removal) for removal in story.removals],
        "dead_letters": [
            {
                "letter_id": letter.letter_id,
                "agent": letter.agent,
                "kind": letter.kind,
                "reason": letter.reason,
                "detail": letter.detail,
                "dead_at_ms": letter.dead_at_ms,
            }
            for letter in story.dead_letters
        ],
        "notes": story.notes,
    }


def _event(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value)
    except ValueError:
        return value.decode("utf-8", "replace")


def story_in_words(story: Story) -> str:
    """Return the story for people, one line for each fact."""
    lines = [f"s3://{story.bucket}/{story.key}"]
    if not story.known:
        lines.append("  nothing is known of it: no outcome, no removal, no dead letter")
    if story.removed is not None:
        lines.append(f"  removed at {_time(story.removed.event_time_ms)} ({story.removed.dialect} event)")
    if story.latest is not None:
        lines.extend(_outcome(story, story.latest))
    if story.ruling is not None:
        lines.extend(_ruling(story))
    lines.extend(_history(story))
    lines.extend(f"  note: {note}" for note in story.notes)
    return "\n".join(lines)


def _outcome(story: Story, outcome: ImagePrediction) -> list[str]:
    order = f"order {outcome.order_key}" if outcome.order_key else "no order key"
    wait_ms = outcome.identified_at_ms - outcome.event_time_ms
    lines = [
        "event",
        f"  {outcome.dialect} {outcome.event_name} at {_time(outcome.event_time_ms)}, {order}, {_at(outcome.source)}"
        + ("" if story.event is not None else " (no longer held there)"),
        f"  identified {_span(wait_ms)} later as upload {outcome.upload_id}",
        f"  version {outcome.version_id or 'none'}, ETag {outcome.etag or 'none'}, {_size(outcome.size_bytes)}",
        "work",
        f"  task {_at(outcome.task)}, {outcome.lane} lane, attempt {outcome.attempt}"
        + (f", job {outcome.job_id}" if outcome.job_id else "")
        + (f", deferred before: {story.task.defer_reason}" if story.task and story.task.defer_reason else ""),
        f"  by {outcome.worker}, release {outcome.release}, at {_time(outcome.scored_at_ms)}, "
        f"{_span(outcome.scored_at_ms - outcome.identified_at_ms)} after it was identified",
        f"  queued {outcome.timings.queued_ms} ms, fetch {outcome.timings.fetch_ms} ms, "
        f"decode {outcome.timings.decode_ms} ms, infer {outcome.timings.infer_ms} ms, "
        f"in all {outcome.timings.total_ms} ms",
        f"  sha256 {outcome.sha256 or 'unknown'}, "
        + ("answered from what was known of these bytes" if outcome.cached else "computed afresh"),
    ]
    if outcome.superseded:
        lines.append("  superseded: the object was overwritten meanwhile, what is there now was scored")
    picture = f": {outcome.format} {outcome.width} x {outcome.height}" if outcome.format else ""
    if outcome.frames > 1:
        picture += f", {outcome.frames} frames"
    if outcome.truncated:
        picture += ", truncated: scored as far as the file goes"
    because = f" because {outcome.reason}" if outcome.reason else ""
    detail = f" ({outcome.detail})" if outcome.detail else ""
    lines.append(f"outcome {outcome.outcome}{because}{detail}{picture}")
    for entry in outcome.scores:
        marks = (", cached" if entry.cached else ", fresh") + (f", not run: {entry.skipped}" if entry.skipped else "")
        scores = ", ".join(
            f"{label.label} {label.value:.3f}{_given_by(label, outcome.renditions)}" for label in entry.labels
        )
        lines.append(f"  {entry.model} {entry.version} (preprocessing {entry.preprocessing}{marks}): {scores}")
    if outcome.reasons:
        lines.append(f"  advice codes: {', '.join(outcome.reasons)}")
    lines.append(f"  publishable by the policy of then: {'yes' if outcome.publishable else 'no'}")
    return lines


def _given_by(label: LabelScore, renditions: tuple[Rendition, ...]) -> str:
    """Return in words which rendition gave a value; nothing where the models looked at one alone."""
    if len(renditions) < 2 or label.rendition >= len(renditions):
        return ""
    return f" ({rendition_in_words(renditions[label.rendition])})"


def _ruling(story: Story) -> list[str]:
    ruling, flag = story.ruling, story.flag
    if ruling is None:
        return []
    lines = [f"policy {ruling.policy.name} {ruling.policy.full_version} ({ruling.why}): {ruling.action}"]
    lines.extend(f"  {'✓' if report.matched else '·'} {report.rule}: {report.explanation}" for report in ruling.reports)
    if flag is not None:
        lines.append(f"  {_flag(flag)}")
    elif story.latest is not None:
        lines.append("  not flagged")
    if ruling.agrees is False:
        lines.append("  this is not the action of then")
    return lines


def _flag(flag: FlaggedImage) -> str:
    changed = f", before: {flag.previous_action}" if flag.changed else ""
    job = f" by job {flag.job_id}" if flag.job_id else ""
    rules = f" ({', '.join(rule.rule for rule in flag.rules)})" if flag.rules else ""
    return (
        f"{flag.state} {flag.action}{rules} at {_time(flag.decided_at_ms)}, "
        f"{_span(flag.decided_at_ms - flag.scored_at_ms)} after the scores{changed}{job}"
    )


def _history(story: Story) -> list[str]:
    entries = [
        *((outcome.scored_at_ms, f"outcome {_short(outcome)}") for outcome in story.outcomes),
        *((flag.decided_at_ms, _flag(flag)) for flag in story.flags),
        *((removal.event_time_ms, _removal(removal)) for removal in story.removals),
        *(
            (letter.dead_at_ms, f"dead letter of {letter.agent}: {letter.reason} {letter.detail}")
            for letter in story.dead_letters
        ),
    ]
    if not entries:
        return []
    return ["history", *(f"  {_time(at_ms)} {words}" for at_ms, words in sorted(entries))]


def _removal(removal: ImageRemoved) -> str:
    return "removed" if removal.event_key is None else f"removal of {removal.event_key}, which can be read as this key"


def _short(outcome: ImagePrediction) -> str:
    reason = f" {outcome.reason}" if outcome.reason else ""
    job = f", job {outcome.job_id}" if outcome.job_id else ""
    digest = f", sha256 {outcome.sha256[:12]}…" if outcome.sha256 else ""
    return f"{outcome.outcome}{reason}{digest}{job}, uploaded {_time(outcome.event_time_ms)}"


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def _span(milliseconds: int) -> str:
    return f"{milliseconds} ms" if abs(milliseconds) < 10_000 else f"{milliseconds / 1000:.1f} s"


def _at(position: Position) -> str:
    return f"{position.topic}/{position.partition} offset {position.offset}" if position.topic else "no record"


def _size(size_bytes: int | None) -> str:
    return "size unknown" if size_bytes is None else f"{size_bytes} bytes"
