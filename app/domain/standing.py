"""Which of two facts about one image is the later one.

Within one dialect the event's own order key decides. Where it cannot (dialects differ, or a key is empty) the event
time does. Facts of equal order are about the same upload: a removal stands over an outcome, then the later decision
stands (so a rescoring, which copies the order of what it rescores, replaces that alone and never a newer upload).
app/systems/redis/index.py holds the same rule in Lua; the contract test compares the two.

What came by the other reading of its event's key (`event_key` is set) is held apart from what came by the first, each
with its own latest fact, because a removal by the other reading may be that of another object
(docs/adr/0007-removals-by-both-readings.md). `other_counts` says which of the two an image shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, ImageTask, ModerationDecision


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
    other_reading: bool = False


def standing_of(record: ImagePrediction | ImageRemoved | FlaggedImage | ImageTask | ModerationDecision) -> Standing:
    """Return the standing of `record`. A decision of a person is of the upload, by whatever reading that was found."""
    order = (record.dialect, record.order_key, record.event_time_ms)
    version = record.version_id or ""
    if isinstance(record, ModerationDecision):
        return Standing(False, *order, record.decided_at_ms, record.decision_id, version)
    other = record.event_key is not None
    match record:
        case ImagePrediction():
            return Standing(False, *order, record.scored_at_ms, record.upload_id, version, other)
        case ImageRemoved():
            return Standing(True, *order, 0, record.removal_id, version, other)
        case FlaggedImage():
            return Standing(False, *order, record.decided_at_ms, record.flag_id, version, other)
        case ImageTask():
            return Standing(False, *order, record.identified_at_ms, record.upload_id, version, other)
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


def other_counts(first: Standing | None, other: Standing | None) -> bool:
    """Whether an image shows what is known of it by the other reading, `other`, and not `first`; both are the latest.

    What `removes` says of a removal and an outcome holds here too.
    """
    if first is None or other is None:
        return other is not None
    if other.removal:
        return False
    if first.removal and not _concerns(first, other):
        return True
    return replaces(other, first)


def removes(removal: ImageRemoved, outcome: Standing) -> bool:
    """Whether the image of `removal` no longer has the upload whose outcome stands as `outcome`."""
    if removes_one_version(removal):
        return removal.version_id == outcome.version_id
    new = standing_of(removal)
    return _concerns(new, outcome) and replaces(new, outcome)


def _concerns(removal: Standing, outcome: Standing) -> bool:
    """Whether `removal` can speak of the object of `outcome` at all, whatever their order.

    A removal by the other reading speaks of nothing that a first reading named: that may be another object, alive. One
    by the first reading speaks of everything but what the other reading found in its own dialect: a store names an
    object alike in all its events, so that one's removal comes by the other reading too.
    """
    if removal.other_reading == outcome.other_reading:
        return True
    return outcome.other_reading and removal.dialect != outcome.dialect


def same_upload(first: Standing, second: Standing) -> bool:
    """Whether both speak of the same upload, however often that was scored."""
    return (first.dialect, first.order_key, first.event_time_ms) == (
        second.dialect,
        second.order_key,
        second.event_time_ms,
    )


def comes_after(new: Standing, old: Standing) -> bool:
    """Whether `new` speaks of a later upload or removal than `old`."""
    return _compare_order(new, old) > 0


def _compare_order(new: Standing, old: Standing) -> int:
    if new.dialect == old.dialect and new.order_key and old.order_key:
        # Bytes, not code points: what Lua compares.
        new_key, old_key = new.order_key.encode(), old.order_key.encode()
        return (new_key > old_key) - (new_key < old_key)
    return (new.event_time_ms > old.event_time_ms) - (new.event_time_ms < old.event_time_ms)


def removes_one_version(removal: ImageRemoved) -> bool:
    """Whether `removal` erases one version of a versioned object only, not the object as readers see it."""
    return bool(removal.version_id) and not removal.delete_marker
