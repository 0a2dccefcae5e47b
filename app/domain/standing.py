"""Which of two facts about one image is the later one.

Within one dialect the event's own order key decides. Where it cannot (dialects differ, or a key is empty) the event
time does. Facts of equal order are about the same upload: a removal stands over an outcome, then the later decision
stands (so a rescoring, which copies the order of what it rescores, replaces that alone and never a newer upload).
app/adapters/redis.py holds the same rule in Lua; the contract test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything that decides the order of a fact; `id` only breaks ties, so that any order of arrival ends alike."""

    removal: bool
    dialect: str
    order_key: str
    event_time_ms: int
    decided_at_ms: int
    id: str
    version_id: str


def standing_of(record: ImagePrediction | ImageRemoved | FlaggedImage) -> Standing:
    """Return the standing of `record`."""
    order = (record.dialect, record.order_key, record.event_time_ms)
    version = record.version_id or ""
    match record:
        case ImagePrediction():
            return Standing(False, *order, record.scored_at_ms, record.upload_id, version)
        case ImageRemoved():
            return Standing(True, *order, 0, record.removal_id, version)
        case FlaggedImage():
            return Standing(False, *order, record.decided_at_ms, record.flag_id, version)
        case _:
            assert_never(record)


def content_standing(prediction: ImagePrediction) -> Standing:
    """Return the standing of `prediction` among all outcomes of the same bytes: the later scoring stands."""
    return Standing(False, "", "", 0, prediction.scored_at_ms, prediction.upload_id, "")


def replaces(new: Standing, old: Standing) -> bool:
    """Whether `new` takes the place of `old`. True for a fact that meets itself: writing it again changes nothing."""
    order = _compare_order(new, old)
    if order != 0:
        return order > 0
    if new.removal != old.removal:
        return new.removal
    return (new.decided_at_ms, new.id) >= (old.decided_at_ms, old.id)


def same_upload(one: Standing, other: Standing) -> bool:
    """Whether both speak of the same upload, however often that was scored."""
    return (one.dialect, one.order_key, one.event_time_ms) == (other.dialect, other.order_key, other.event_time_ms)


def _compare_order(new: Standing, old: Standing) -> int:
    if new.dialect == old.dialect and new.order_key and old.order_key:
        # Bytes, not code points: what Lua compares.
        one, other = new.order_key.encode(), old.order_key.encode()
        return (one > other) - (one < other)
    return (new.event_time_ms > old.event_time_ms) - (new.event_time_ms < old.event_time_ms)


def removes_one_version(removal: ImageRemoved) -> bool:
    """Whether `removal` erases one version of a versioned object only, not the object as readers see it."""
    return bool(removal.version_id) and not removal.delete_marker
