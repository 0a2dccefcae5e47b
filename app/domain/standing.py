"""Order of facts about one image: the rule that decides which of two facts is the later one.

Within one dialect the order key of the event decides. If it cannot (dialects differ, or a key is empty), the event time
decides. Facts of equal order concern the same upload: a removal goes before an outcome, then the later decision wins.
So a rescoring, which copies the order of its upload, replaces only that upload's outcome and never a newer upload.
app/systems/redis/index.py implements the same rule in Lua; a contract test compares the two.

Facts under the other reading of an event's key (`event_key` is set) are kept separate from those under the first
reading, each with its own latest fact, because a removal under the other reading may concern another object
(docs/adr/0007-removals-by-both-readings.md). `other_counts` decides which of the two an image shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, ImageTask, ModerationDecision


@dataclass(frozen=True, slots=True)
class Standing:
    """Sort fields of a fact. `id` only breaks ties, so that every order of arrival gives the same result."""

    removal: bool
    dialect: str
    order_key: str
    event_time_ms: int
    decided_at_ms: int
    id: str
    version_id: str
    other_reading: bool = False


def standing_of(record: ImagePrediction | ImageRemoved | FlaggedImage | ImageTask | ModerationDecision) -> Standing:
    """Return the standing of `record`. A moderator's decision belongs to the upload, under any reading of its key."""
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
    """Return the standing of `prediction` among all outcomes of the same bytes: the later scoring wins."""
    return Standing(False, "", "", 0, prediction.scored_at_ms, prediction.upload_id, "")


def replaces(new: Standing, old: Standing) -> bool:
    """Return whether `new` replaces `old`. True for equal facts: a repeated write changes nothing."""
    order = _compare_order(new, old)
    if order != 0:
        return order > 0
    if new.removal != old.removal:
        return new.removal
    return (new.decided_at_ms, new.id) >= (old.decided_at_ms, old.id)


def other_counts(first: Standing | None, other: Standing | None) -> bool:
    """Return whether an image shows `other`, its latest fact under the other reading, instead of `first`.

    The rule of `removes` for a removal and an outcome applies here too.
    """
    if first is None or other is None:
        return other is not None
    if other.removal:
        return False
    if first.removal and not _concerns(first, other):
        return True
    return replaces(other, first)


def removes(removal: ImageRemoved, outcome: Standing) -> bool:
    """Return whether `removal` deleted the upload whose outcome has the standing `outcome`."""
    if removes_one_version(removal):
        return removal.version_id == outcome.version_id
    new = standing_of(removal)
    return _concerns(new, outcome) and replaces(new, outcome)


def _concerns(removal: Standing, outcome: Standing) -> bool:
    """Return whether `removal` can concern the object of `outcome`, independent of their order.

    A removal under the other reading never concerns an outcome under a first reading: that may be another object, which
    still exists. A removal under the first reading concerns every outcome except one under the other reading in the
    same dialect: a store names an object the same way in all its events, so that object's removal comes under the other
    reading too.
    """
    if removal.other_reading == outcome.other_reading:
        return True
    return outcome.other_reading and removal.dialect != outcome.dialect


def same_upload(first: Standing, second: Standing) -> bool:
    """Return whether both concern the same upload, however often it was scored."""
    return (first.dialect, first.order_key, first.event_time_ms) == (
        second.dialect,
        second.order_key,
        second.event_time_ms,
    )


def comes_after(new: Standing, old: Standing) -> bool:
    """Return whether `new` concerns a later upload or removal than `old`."""
    return _compare_order(new, old) > 0


def _compare_order(new: Standing, old: Standing) -> int:
    if new.dialect == old.dialect and new.order_key and old.order_key:
        # Compares bytes, not code points, as Lua does.
        new_key, old_key = new.order_key.encode(), old.order_key.encode()
        return (new_key > old_key) - (new_key < old_key)
    return (new.event_time_ms > old.event_time_ms) - (new.event_time_ms < old.event_time_ms)


def removes_one_version(removal: ImageRemoved) -> bool:
    """Return whether `removal` deletes only one version of a versioned object and not its current state."""
    return bool(removal.version_id) and not removal.delete_marker
