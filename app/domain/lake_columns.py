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
    "etag": "The store's tag of the bytes, as the event told it; not a digest.",
    "sha256": "Digest of the bytes that were read; null where none were.",
    "dialect": "How the store writes its events: `aws`, `minio`, `versitygw`, `ceph` or another.",
    "sequencer": "The store's own counter of the event.",
    "order_key": "Orders events of one image within one dialect, compared as text; an empty one orders nothing.",
    "event_time_ms": "When the object was uploaded, by its event; a rescoring copies it.",
    "event_key": "Set where `key` is the other reading of the key that the event named: its first reading.",
    "job_id": "The rescoring that this belongs to; null for a live upload.",
    "superseded": "The object was overwritten before it could be read: what was there then was scored.",
    "frames": "Frames of an animation, 1 for a still picture; 0 without scores, and in rows of older releases.",
    "truncated": "The file ends before the picture does; it was scored as far as it goes.",
    "renditions": "What the models looked at: frame, left, top, right, bottom, ground; labels name one by index.",
    "kafka_topic": "The topic that the row came from.",
    "kafka_partition": "Its partition there.",
    "kafka_offset": "Its offset there: with topic and partition the identity of the row.",
    "kafka_timestamp": "When the record was published. Tables are partitioned by its UTC day: a filter reads less.",
}

TABLE_COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "predictions": {
        "size_bytes": "Size of the object in bytes.",
        "outcome": "`scored`, `rejected` (no picture that can be read, too large, hostile) or `gone` (deleted before).",
        "reason": "Stable code of why it was rejected or gone; empty for scored.",
        "detail": "More words on the reason, for people.",
        "cached": "Every score was known already for these bytes.",
        "format": "Format of the picture: `jpeg`, `png`, …; empty where it was not read.",
        "width": "Width of the upright picture in pixels; 0 where it was not read.",
        "height": "Height of the upright picture in pixels; 0 where it was not read.",
        "scores": "What each model said: model, version, preprocessing, labels (label, value, rendition), regions, "
        "cached, skipped.",
        "reasons": "Codes of what is to be told about the picture: labels that reached their model's threshold.",
        "previous": "Of a rescoring: the scores that it supersedes; outcome, picture and verdict of then as entries.",
        "event_name": "Name of the event, such as `ObjectCreated:Put`.",
        "identified_at_ms": "When the event was read.",
        "scored_at_ms": "When the outcome was made.",
        "timings": "Where the time went, in milliseconds: queued, fetch, decode, infer, total.",
        "lane": "`live` or `backfill`.",
        "attempt": "How often the upload had been put off before; 0 for the first try.",
        "source": "Position of the upload event: topic, partition, offset.",
        "task": "Position of the task: topic, partition, offset.",
        "worker": "The worker that made the outcome.",
        "release": "Version of Sightline on that worker.",
        "publishable": "The picture was scored and the verdict is not `block`; false in rows of older releases.",
    },
    "flagged": {
        "flag_id": "Identity of the flag.",
        "state": "`flagged`, or `cleared` when a rescoring takes a flag back.",
        "action": "The strongest action that a rule asks for: `notify`, `review` or `block`; `none` when cleared.",
        "severity": "Severity of the strongest rule, 0 to 100.",
        "rules": "The rules that matched: rule, action, severity, explanation, and the conditions that held.",
        "policy": "Name of the policy.",
        "policy_version": "Its version and digest.",
        "changed": "A rescoring came to another action or other rules than before.",
        "previous_action": "The action before the rescoring; empty for a live upload.",
        "previous_rules": "The rules before the rescoring.",
        "scored_at_ms": "When the outcome was made.",
        "decided_at_ms": "When the policy was applied.",
        "prediction": "Position of the prediction: topic, partition, offset.",
    },
    "decisions": {
        "decision_id": "Identity of the decision, derived from the moderator and the client's own id.",
        "upload_id": "The upload that the moderator saw.",
        "flag_id": "The flag that brought the image before the moderator.",
        "decision": "`approve`, `reject` or `skip`.",
        "reason": "Stable code of why; empty where none was given.",
        "moderator": "Who decided.",
        "policy": "Name of the policy at that time.",
        "policy_version": "Its version and digest.",
        "reverses": "The decision that this one takes back.",
        "decided_at_ms": "When it was decided.",
        "labels": "What it says of the labels behind the flag: model, version, label, value, score, weight.",
    },
    "removals": {
        "removal_id": "Identity of the removal.",
        "version_id": "The version that was deleted, or that of the delete marker.",
        "delete_marker": "A marker was put over the object: readers see none, its versions are still there.",
        "event_time_ms": "When the object was deleted, by its event.",
        "source": "Position of the event: topic, partition, offset.",
    },
    "embeddings": {
        "sha256": "Digest of the content.",
        "model": "The model whose embedding this is.",
        "version": "Its version.",
        "preprocessing": "Version of what was done to the picture before.",
        "dimensions": "Number of values.",
        "scale": "Value i of the embedding is int8(values[i]) × scale.",
        "values": 'The embedding, one signed byte a value; `int8_values("values")` makes a list of it.',
        "computed_at_ms": "When it was computed.",
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
        "cached": "This score was known already for these bytes.",
        "skipped": "Empty, or why a cascade did not need to run; the value is then its gate's.",
    },
    "images_latest": {
        "removed": "The image is deleted: the newest that is known of it is a removal.",
        "other_reading": "What is shown was found by the other reading of its event's key.",
        "event_time": "When it was uploaded, or deleted.",
        "upload_id": "The upload (or its rescoring) whose outcome the image shows; null where it is removed.",
    },
    "predictions_latest": {
        "scores": "What the active model versions said; those of other versions are left out.",
    },
    "uploads": {
        "policy": "Name of the policy of that flag; null where none stands.",
        "day": "UTC day of the upload.",
        "flagged": "A flag of this upload stands: none was taken back by a rescoring.",
        "action": "The action of that flag; null where none stands.",
        "policy_version": "Policy version of that flag; null where none stands.",
    },
    "per_upload": {
        "day": "UTC day of the uploads.",
        "flagged": "Whether a flag of the upload stands.",
        "uploads": "Number of uploads, each counted once.",
    },
    "per_content": {
        "day": "UTC day of the content's first upload.",
        "outcome": "Outcome of the content's first upload.",
        "flagged": "Whether a flag of the content's first upload stands.",
        "contents": "Number of contents, each counted once: on the day of its first upload.",
    },
    "flagged_latest": {},
    "decisions_latest": {},
    "embeddings_latest": {
        "vector": "The values as a list of signed whole numbers; times `scale` it is the embedding.",
    },
    "flag_rate_daily": {
        "day": "UTC day of the uploads.",
        "policy": "Name of the policy of the flags; null on a day without any.",
        "policy_version": "Policy version of the flags; null on a day without any.",
        "uploads": "Uploads of the day that a policy saw (scored, rejected), without jobs; alike in all rows of a day.",
        "flagged": "Those with a flag of this policy version that stands.",
        "rate": "flagged / uploads.",
    },
}

VIEWS: Final[Mapping[str, str]] = {
    "predictions_all": "Every outcome, one row for each upload id, with a column for each label of the active models. "
    "What the sink wrote twice is left out. Filter by `event_time` to read less.",
    "prediction_scores": "One row for each upload, model, version and label, of any version. It goes by the rows of "
    "`predictions`: what the sink wrote twice (docs/analytics.md) is here twice.",
    "images_latest": "One row for each image: which upload it shows, or that it was removed, by the rule of the index.",
    "predictions_latest": "One row for each image that is there: its newest outcome. A rescoring replaces the scores "
    "of the upload that it scored again, never those of a newer one. Columns of models are null where another than "
    "the active version answered.",
    "uploads": "One row for each live upload (no rescorings), with the flag that stands.",
    "per_upload": "Uploads a day, each counted once.",
    "per_content": "Contents a day, each counted once, however often it was uploaded.",
    "flagged_latest": "One row for each image that is there and whose newest upload was ever flagged: the newest "
    "word on it; `state` says whether the flag stands.",
    "decisions_latest": "One row for each image that a moderator decided on: the last decision that none took back.",
    "embeddings_latest": "One row for each content, model, version and preprocessing.",
    "flag_rate_daily": "How many uploads of a day are flagged, by policy version.",
}


def table_meaning(table: str, column: str) -> str:
    """Return the meaning of a table's column. Raises KeyError if it has none."""
    own = TABLE_COLUMNS[table]
    return own[column] if column in own else _COMMON[column]
