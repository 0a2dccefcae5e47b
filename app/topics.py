"""Every topic that the project reads or writes, declared once.

`./sightline stack up` and the compose file create them from here, every process checks them at its start, and
docs/topics.md is generated from the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from app.settings import TableSettings

DAY_MS: Final = 86_400_000
FOREVER_MS: Final = -1

UPLOADS: Final = "s3.uploads"
TASKS: Final = "image.tasks.v1"
BACKFILL: Final = "image.backfill.v1"
RETRIES_30S: Final = "image.retries.30s.v1"
RETRIES_5M: Final = "image.retries.5m.v1"
RETRIES_1H: Final = "image.retries.1h.v1"
REMOVED: Final = "image.removed.v1"
PREDICTIONS: Final = "image.predictions.v1"
EMBEDDINGS: Final = "image.embeddings.v1"
FLAGGED: Final = "image.flagged.v1"
DECISIONS: Final = "moderation.decisions.v1"
LABELS: Final = "labels.v1"
DEAD_LETTERS: Final = "dead_letters.v1"
CONTROL: Final = "control.v1"

# Changelogs of the score agent's tables; named as Faust names them: <app id>-<table>-changelog.
CLAIMS_CHANGELOG: Final = "sightline.score-uploads-changelog"
CONTENTS_CHANGELOG: Final = "sightline.score-contents-changelog"
EMBEDDINGS_CHANGELOG: Final = "sightline.score-embeddings-changelog"
CHANGELOGS: Final = (CLAIMS_CHANGELOG, CONTENTS_CHANGELOG, EMBEDDINGS_CHANGELOG)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic: what it holds, who writes and reads it, how long it is kept.

    `record` names the record of schemas/ (None: raw bytes that are not ours). `scoring` topics share one partition
    count, because the tables of the score agent are partitioned with them; `single` topics have one partition. The
    changelog of a table is kept as long as its entries live, which `kept_as` says: a field of the settings' `tables`.
    """

    name: str
    key: str
    record: str | None
    cleanup: str
    retention_ms: int
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    single: bool = False
    scoring: bool = False
    kept_as: str = ""


def _changelog(name: str, key: str, kept_as: str) -> TopicSpec:
    kept_ms = _kept_ms(TableSettings(), kept_as)
    return TopicSpec(name, key, None, "compact,delete", kept_ms, ("score",), ("score",), scoring=True, kept_as=kept_as)


def _kept_ms(tables: TableSettings, kept_as: str) -> int:
    days: float = getattr(tables, kept_as)
    return round(days * DAY_MS)


# With the changelogs as the default settings keep them; `topics_of` has them as yours do.
TOPICS: Final[tuple[TopicSpec, ...]] = (
    TopicSpec(UPLOADS, "whatever the notifier uses", None, "delete", 7 * DAY_MS, ("buckets", "bridge"), ("identify",)),
    TopicSpec(
        TASKS,
        "content hint",
        "ImageTask",
        "delete",
        7 * DAY_MS,
        ("identify", "retry"),
        ("score", "index"),
        scoring=True,
    ),
    TopicSpec(
        BACKFILL,
        "content hint",
        "ImageTask",
        "delete",
        7 * DAY_MS,
        ("rescore", "reconcile", "retry"),
        ("score",),
        scoring=True,
    ),
    TopicSpec(RETRIES_30S, "content hint", "ImageTask", "delete", 7 * DAY_MS, ("score",), ("retry",), scoring=True),
    TopicSpec(RETRIES_5M, "content hint", "ImageTask", "delete", 7 * DAY_MS, ("score",), ("retry",), scoring=True),
    TopicSpec(RETRIES_1H, "content hint", "ImageTask", "delete", 7 * DAY_MS, ("score",), ("retry",), scoring=True),
    # Kept longer than the predictions: an index rebuilt from the topics must not bring removed images back.
    TopicSpec(
        REMOVED,
        "bucket/key",
        "ImageRemoved",
        "delete",
        31 * DAY_MS,
        ("identify",),
        ("index", "rescore", "archive", "lake"),
    ),
    TopicSpec(
        PREDICTIONS,
        "bucket/key",
        "ImagePrediction",
        "delete",
        30 * DAY_MS,
        ("score",),
        ("moderate", "index", "archive", "lake"),
    ),
    TopicSpec(
        EMBEDDINGS, "sha256", "ContentEmbedding", "delete", 7 * DAY_MS, ("score",), ("archive", "lake", "training")
    ),
    TopicSpec(
        FLAGGED,
        "bucket/key",
        "FlaggedImage",
        "delete",
        90 * DAY_MS,
        ("moderate",),
        ("moderation", "index", "archive", "lake"),
    ),
    TopicSpec(
        DECISIONS,
        "bucket/key",
        "ModerationDecision",
        "delete",
        FOREVER_MS,
        ("query service",),
        ("index", "label", "archive", "lake"),
    ),
    TopicSpec(LABELS, "bucket/key", "Label", "delete", FOREVER_MS, ("label",), ("training",)),
    TopicSpec(DEAD_LETTERS, "source position", "DeadLetter", "delete", 30 * DAY_MS, ("any agent",), ("dead-letters",)),
    TopicSpec(CONTROL, "kind/name", "ControlRecord", "compact", FOREVER_MS, ("CLI",), ("every process",), single=True),
    _changelog(CLAIMS_CHANGELOG, "upload id", "claims_days"),
    _changelog(CONTENTS_CHANGELOG, "sha256", "contents_days"),
    _changelog(EMBEDDINGS_CHANGELOG, "sha256", "embeddings_days"),
)


# Of the lake alone: Kafka Connect's own, and one on which the tasks of each connector agree on a commit.
CONNECT_CONFIGS: Final = "lake.connect.configs.v1"
CONNECT_OFFSETS: Final = "lake.connect.offsets.v1"
CONNECT_STATUS: Final = "lake.connect.status.v1"


def _connect(name: str, key: str, cleanup: str, retention_ms: int) -> TopicSpec:
    return TopicSpec(name, key, None, cleanup, retention_ms, ("Connect",), ("Connect",), single=True)


LAKE_TOPICS: Final[tuple[TopicSpec, ...]] = (
    _connect(CONNECT_CONFIGS, "connector or task", "compact", FOREVER_MS),
    _connect(CONNECT_OFFSETS, "connector", "compact", FOREVER_MS),
    _connect(CONNECT_STATUS, "connector or task", "compact", FOREVER_MS),
    # Longer than the longest outage of a connector: it begins again where its last commit was announced.
    *(
        _connect(f"lake.control.{table}.v1", "event", "delete", 14 * DAY_MS)
        for table in ("predictions", "flagged", "decisions", "removals", "embeddings")
    ),
)


def topics_of(tables: TableSettings) -> tuple[TopicSpec, ...]:
    """Return TOPICS, each changelog kept as long as the entries of its table live by these settings."""
    return tuple(
        replace(spec, retention_ms=_kept_ms(tables, spec.kept_as)) if spec.kept_as else spec for spec in TOPICS
    )


def spec_of(name: str) -> TopicSpec:
    """Return the row of `name`; raises KeyError for a topic that is not ours."""
    for spec in TOPICS:
        if spec.name == name:
            return spec
    raise KeyError(name)
