"""Construction of tasks, the same for events, listings and rescorings. Pure."""

from __future__ import annotations

from app.domain.events import Created
from app.domain.retries import FIRST_ATTEMPT
from schemas.records import ImageTask, Position


def first_task(
    upload: Created, *, upload_id: str, order_key: str, identified_at_ms: int, source: Position, lane: str
) -> ImageTask:
    """Return the task of the first attempt to score `upload`, without a job and for all models."""
    return ImageTask(
        upload_id=upload_id,
        bucket=upload.bucket,
        key=upload.key,
        alternate_key=upload.alternate_key,
        version_id=upload.version_id,
        etag=upload.etag,
        size_bytes=upload.size_bytes,
        dialect=upload.dialect,
        event_name=upload.event_name,
        sequencer=upload.sequencer,
        order_key=order_key,
        event_time_ms=upload.event_time_ms,
        identified_at_ms=identified_at_ms,
        source=source,
        lane=lane,
        attempt=FIRST_ATTEMPT,
        not_before_ms=0,
        defer_reason="",
        job_id=None,
        known_sha256=None,
        models=(),
        force=False,
        previous=(),
    )
