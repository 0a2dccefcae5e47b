"""Constructors of the single outcome of an upload. Pure; time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from app.domain.contents import ContentRow
from app.domain.images import GoneReason, Rejection, RejectReason
from schemas.records import ImagePrediction, ImageTask, ModelScores, Position, Timings

SCORED: Final = "scored"
REJECTED: Final = "rejected"
GONE: Final = "gone"
# Keeps a prediction far below the limit of 16 KB for records, whatever text a decoder or a store returns.
_MAX_DETAIL_CHARACTERS: Final = 500
NO_TIMINGS: Final = Timings(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class OutcomeContext:
    """Fields that are common to all outcomes of one task. `sha256` is None if the bytes were never read."""

    task: ImageTask
    position: Position
    worker: str
    release: str
    scored_at_ms: int
    timings: Timings
    sha256: str | None = None
    size_bytes: int | None = None
    superseded: bool = False
    read_key: str | None = None
    read_etag: str | None = None
    read_version_id: str | None = None


def scored(
    context: OutcomeContext,
    *,
    content: ContentRow,
    scores: tuple[ModelScores, ...],
    reasons: tuple[str, ...],
    previous: tuple[ModelScores, ...],
) -> ImagePrediction:
    """Return the outcome of a scored picture. It is marked as cached if every score was known before.

    `content` has the facts of the picture. `publishable` stays false: the policy decides it later.
    """
    return replace(
        _outcome(context, SCORED, "", "", previous),
        cached=bool(scores) and all(model.cached for model in scores),
        format=content.format,
        width=content.width,
        height=content.height,
        scores=scores,
        reasons=reasons,
        frames=content.frames,
        truncated=content.truncated,
        renditions=content.renditions,
    )


def rejected(context: OutcomeContext, rejection: Rejection, previous: tuple[ModelScores, ...] = ()) -> ImagePrediction:
    """Return the outcome of an upload that cannot be scored."""
    return replace(
        _outcome(context, REJECTED, rejection.reason.value, rejection.detail, previous),
        format=rejection.format,
        # A hostile header may contain any number; the schema's sizes are 32-bit.
        width=min(rejection.width, 2**31 - 1),
        height=min(rejection.height, 2**31 - 1),
    )


def gone(context: OutcomeContext, detail: str, previous: tuple[ModelScores, ...] = ()) -> ImagePrediction:
    """Return the outcome of an upload that was deleted before it could be read."""
    return _outcome(context, GONE, GoneReason.DELETED.value, detail, previous)


def missing_reason(reason: str) -> RejectReason | None:
    """Return the reason to reject an object that the store will never return, or None if the outcome is `gone`.

    Raises KeyError for an unknown reason.
    """
    reasons = {
        "gone": None,
        "archived": RejectReason.ARCHIVED,
        "too_large": RejectReason.TOO_MANY_BYTES,
        "forbidden": RejectReason.FORBIDDEN,
    }
    return reasons[reason]


def _outcome(
    context: OutcomeContext, outcome: str, reason: str, detail: str, previous: tuple[ModelScores, ...]
) -> ImagePrediction:
    task = context.task
    # If the object was read under the other reading of the event's key, that reading is its name.
    key = context.read_key if context.read_key is not None else task.key
    return ImagePrediction(
        upload_id=task.upload_id,
        bucket=task.bucket,
        key=key,
        # The version of the upload, not of the object that overwrote it.
        version_id=task.version_id or (None if context.superseded else context.read_version_id),
        etag=task.etag or context.read_etag,
        size_bytes=context.size_bytes if context.size_bytes is not None else task.size_bytes,
        sha256=context.sha256,
        outcome=outcome,
        reason=reason,
        detail=detail[:_MAX_DETAIL_CHARACTERS],
        superseded=context.superseded,
        cached=False,
        format="",
        width=0,
        height=0,
        scores=(),
        reasons=(),
        previous=task.previous or previous,
        dialect=task.dialect,
        sequencer=task.sequencer,
        order_key=task.order_key,
        event_name=task.event_name,
        event_time_ms=task.event_time_ms,
        identified_at_ms=task.identified_at_ms,
        scored_at_ms=context.scored_at_ms,
        timings=context.timings,
        lane=task.lane,
        attempt=task.attempt,
        job_id=task.job_id,
        source=task.source,
        task=context.position,
        worker=context.worker,
        release=context.release,
        event_key=task.key if key != task.key else task.event_key,
    )
