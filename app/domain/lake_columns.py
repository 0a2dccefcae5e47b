"""Meanings of the lake's columns: the source of the comments on tables and views.

A column of a view has the meaning of the table's column that it comes from, unless VIEW_COLUMNS overrides it. A test
compares both mappings with the schemas and with the views of a SQL engine: none is missing, none is stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Columns with the same meaning in all tables.
_COMMON: Final[Mapping[str, str]] = {
    "upload_id": "Identity of the upload; a rescoring has an upload id of its own, and a job_id.",
    "bucket": "Bucket of the image.",
    "key": "Key of the image in its bucket.",
    "version_id": "Version of the object, in buckets with versions.",
    "etag": "The store's ETag of the bytes, from the upload event; not a digest.",
    "sha256": "Digest of the bytes that were read; null if none were read.",
    "dialect": "Dialect of the store's events: `aws`, `minio`, `versitygw`, `ceph` or another.",
    "sequencer": "Sequencer of the event, a counter of the store.",
    "order_key": "Text by which events of one image are ordered within one dialect; empty: not ordered.",
    "event_time_ms": "Time of the upload, from its event; a rescoring copies it.",
    "event_key": "First reading of the event's key, if `key` is the other reading.",
    "job_id": "Id of the rescoring job; null for a live upload.",
    "superseded": "The object was overwritten before it was read, so later bytes were scored.",
    "frames": "Frames of an animation, 1 for a still picture; 0 without scores, and in rows of older releases.",
    "truncated": "The file ends before the picture does; it was scored as far as it goes.",
    "renditions": "Pictures that were scored: frame, left, top, right, bottom, ground; labels refer to them by index.",
    "kafka_topic": "Topic of the record.",
    "kafka_partition": "Partition of the record.",
    "kafka_offset": "Offset of the record; with topic and partition the identity of the row.",
    "kafka_timestamp": "Time of publication. Tables are partitioned by its UTC day, so a filter on it reads less.",
}

TABLE_COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "predictions": {
        "size_bytes": "Size of the object in bytes.",
        "outcome": "`scored`, `rejected` (unreadable, too large or hostile) or `gone` (deleted before it was read).",
        "reason": "Stable code of the cause of `rejected` or `gone`; empty for `scored`.",
        "detail": "Explanation of the reason, for people.",
        "cached": "All scores of these bytes were stored already.",
        "format": "Format of the picture: `jpeg`, `png`, …; empty if it was not read.",
        "width": "Width of the upright picture in pixels; 0 if it was not read.",
        "height": "Height of the upright picture in pixels; 0 if it was not read.",
        "scores": "Scores of each model: model, version, preprocessing, labels (label, value, rendition), regions, "
        "cached, skipped.",
        "reasons": "Reason codes of labels that reach their model's threshold.",
        "previous": "For a rescoring: the previous scores; previous outcome, picture and verdict as further entries.",
        "event_name": "Name of the event, such as `ObjectCreated:Put`.",
        "identified_at_ms": "Time at which the event was read.",
        "scored_at_ms": "When the outcome was made.",
        "timings": "Durations of the stages in milliseconds: queued, fetch, decode, infer, total.",
        "lane": "`live` or `backfill`.",
        "attempt": "Number of earlier attempts that were deferred; 0 for the first attempt.",
        "source": "Position of the upload event: topic, partition, offset.",
        "task": "Position of the task: topic, partition, offset.",
        "worker": "Worker that computed the outcome.",
        "release": "Version of Sightline on that worker.",
        "publishable": "The picture was scored and the verdict is not `block`; false in rows of older releases.",
    },
    "flagged": {
        "flag_id": "Identity of the flag.",
        "state": "`flagged`, or `cleared` if a rescoring withdrew the flag.",
        "action": "Strongest action of the rules: `notify`, `review` or `block`; `none` when cleared.",
        "severity": "Severity of the strongest rule, 0 to 100.",
        "rules": "Rules that match: rule, action, severity, explanation, and the conditions that held.",
        "policy": "Name of the policy.",
        "policy_version": "Its version and digest.",
        "changed": "A rescoring changed the action or the rules.",
        "previous_action": "The action before the rescoring; empty for a live upload.",
        "previous_rules": "The rules before the rescoring.",
        "scored_at_ms": "When the outcome was made.",
        "decided_at_ms": "Time at which the policy was applied.",
        "prediction": "Position of the prediction: topic, partition, offset.",
    },
    "decisions": {
        "decision_id": "Identity of the decision, derived from the moderator and the client's own id.",
        "upload_id": "The upload that the moderator saw.",
        "flag_id": "The flag that the moderator decided on.",
        "decision": "`approve`, `reject` or `skip`.",
        "reason": "Stable code of the reason; empty if none was given.",
        "moderator": "Name of the moderator.",
        "policy": "Name of the policy at that time.",
        "policy_version": "Its version and digest.",
        "reverses": "The earlier decision that this one reverses.",
        "decided_at_ms": "Time of the decision.",
        "labels": "Labels that the decision confirms or denies: model, version, label, value, score, weight.",
    },
    "removals": {
        "removal_id": "Identity of the removal.",
        "version_id": "The version that was deleted, or that of the delete marker.",
        "delete_marker": "A delete marker hides the object; its versions still exist.",
        "event_time_ms": "Time of the deletion, from its event.",
        "source": "Position of the event: topic, partition, offset.",
    },
    "embeddings": {
        "sha256": "Digest of the content.",
        "model": "Model that computed the embedding.",
        "version": "Its version.",
        "preprocessing": "Version of what was done to the picture before.",
        "dimensions": "Number of values.",
        "scale": "Value i of the embedding is int8(values[i]) × scale.",
        "values": 'The embedding, one signed byte a value; `int8_values("values")` converts it to a list.',
        "computed_at_ms": "Time of computation.",
    },
}

# Columns that only views have, or whose meaning differs there.
VIEW_COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "predictions_all": {},
    "prediction_scores": {
        "model": "The model.",
        "version": "Its version.",
        "preprocessing": "Version of what was done to the picture before.",
        "label": "One label of the model.",
        "value": "The score of the label, 0 to 1; no threshold is applied.",
        "cached": "This score of these bytes was stored already.",
        "skipped": "Empty, or why a cascade did not need to run; the value is then its gate's.",
    },
    "images_latest": {
        "removed": "The image is deleted: its latest event is a removal.",
        "other_reading": "The object was found by the other reading of its event's key.",
        "event_time": "Time of the upload or deletion.",
        "upload_id": "The upload (or its rescoring) whose outcome is the latest; null if the image is removed.",
    },
    "predictions_latest": {
        "scores": "Scores of the active model versions; scores of other versions are omitted.",
    },
    "uploads": {
        "policy": "Name of the policy of the flag; null without a flag in force.",
        "day": "UTC day of the upload.",
        "flagged": "A flag of this upload is in force (no rescoring withdrew it).",
        "action": "Action of the flag; null without a flag in force.",
        "policy_version": "Policy version of the flag; null without a flag in force.",
    },
    "per_upload": {
        "day": "UTC day of the uploads.",
        "flagged": "A flag of the upload is in force.",
        "uploads": "Number of uploads, each counted once.",
    },
    "per_content": {
        "day": "UTC day of the content's first upload.",
        "outcome": "Outcome of the content's first upload.",
        "flagged": "A flag of the content's first upload is in force.",
        "contents": "Number of contents, each counted once, on the day of its first upload.",
    },
    "flagged_latest": {},
    "decisions_latest": {},
    "embeddings_latest": {
        "vector": "Values as a list of signed whole numbers; multiplied by `scale` they are the embedding.",
    },
    "flag_rate_daily": {
        "day": "UTC day of the uploads.",
        "policy": "Name of the policy of the flags; null on a day without flags.",
        "policy_version": "Policy version of the flags; null on a day without flags.",
        "uploads": "Uploads of the day that were scored or rejected, without jobs; equal in all rows of a day.",
        "flagged": "Uploads with a flag of this policy version that is in force.",
        "rate": "flagged / uploads.",
    },
}

VIEWS: Final[Mapping[str, str]] = {
    "predictions_all": "Every outcome, one row for each upload id, with a column for each label of the active models. "
    "Second rows of a record are omitted. Filter by `event_time` to read less.",
    "prediction_scores": "One row for each upload, model, version and label, of any version. It does not "
    "omit second rows of a record (docs/analytics.md).",
    "images_latest": "One row for each image: its latest upload or removal, by the same rule as the index.",
    "predictions_latest": "One row for each image that exists: its latest outcome. A rescoring replaces the scores "
    "of the upload that it scored again, never those of a later one. Columns of a model are null if another than "
    "the active version computed the scores.",
    "uploads": "One row for each live upload (no rescorings), with the flag in force.",
    "per_upload": "Uploads per day, each counted once.",
    "per_content": "Contents per day, each counted once, however often it was uploaded.",
    "flagged_latest": "One row for each image that exists and whose latest upload was ever flagged: its latest "
    "flag; `state` says whether it is in force.",
    "decisions_latest": "One row for each image with a decision: the last decision that was not reversed.",
    "embeddings_latest": "One row for each content, model, version and preprocessing.",
    "flag_rate_daily": "Number of flagged uploads per day, by policy version.",
}


def table_meaning(table: str, column: str) -> str:
    """Return the meaning of a table's column. Raises KeyError if it has none."""
    own = TABLE_COLUMNS[table]
    return own[column] if column in own else _COMMON[column]
