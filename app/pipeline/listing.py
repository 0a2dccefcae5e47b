"""Tasks of objects from a bucket listing, for reconcile and rescore."""

from __future__ import annotations

from typing import Final

from app.domain import identity
from app.domain.events import Created
from app.domain.retries import BACKFILL_LANE
from app.domain.tasks import first_task
from app.ports.objects import ListedObject
from schemas.records import ImageTask, Position

# Dialect of uploads without an event. Like an empty order key, it has no order.
LISTING: Final = "listing"
EVENT_NAME: Final = "Listed"


def task_of_listed(listed: ListedObject, listed_at_ms: int) -> ImageTask:
    """Return the task of a first attempt on the backfill lane, without a job, for all models."""
    upload = Created(
        dialect=LISTING,
        event_name=EVENT_NAME,
        bucket=listed.bucket,
        key=listed.key,
        alternate_key=None,
        version_id=None,
        etag=listed.etag,
        size_bytes=listed.size_bytes,
        sequencer=None,
        event_time_ms=listed.modified_ms,
    )
    return first_task(
        upload,
        upload_id=identity.listed_upload_id(listed.bucket, listed.key, listed.etag, listed.modified_ms),
        order_key="",
        identified_at_ms=listed_at_ms,
        source=Position("", -1, -1),
        lane=BACKFILL_LANE,
    )
