"""Tasks of objects from a bucket listing, for reconcile and rescore."""

from __future__ import annotations

from typing import Final

from app.domain import identity
from app.domain.retries import BACKFILL_LANE, FIRST_ATTEMPT
from app.ports.objects import ListedObject
from schemas.records import ImageTask, Position

# Dialect of uploads without an event. Like an empty order key, it has no order.
LISTING: Final = "listing"
EVENT_NAME: Final = "Listed"


def task_of_listed(listed: ListedObject, listed_at_ms: int) -> ImageTask:
    """Return the task of a first attempt on the backfill lane, without a job, for all models."""
    return ImageTask(
        upload_id=identity.listed_upload_id(listed.bucket, listed.key, listed.etag, listed.modified_ms),
        bucket=listed.bucket,
        key=listed.key,
        alternate_key=None,
        version_id=None,
        etag=listed.etag,
        size_bytes=listed.size_bytes,
        dialect=LISTING,
        event_name=EVENT_NAME,
        sequencer=None,
        order_key="",
        event_time_ms=listed.modified_ms,
        identified_at_ms=listed_at_ms,
        source=Position("", -1, -1),
        lane=BACKFILL_LANE,
        attempt=FIRST_ATTEMPT,
        not_before_ms=0,
        defer_reason="",
        job_id=None,
        known_sha256=None,
        models=(),
        force=False,
        previous=(),
    )
