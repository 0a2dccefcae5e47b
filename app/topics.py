"""Names in Kafka: every topic that the project reads or writes, the tables with their changelogs, and consumer groups.

`./sightline stack up` and the compose file create the topics from here, every process checks them at its start, and
docs/topics.md is generated from the rows. The agents that read and write a topic are declared in agents/__init__.py.
"""

from __future__ import annotations

from dataclasses import dataclass
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

CLAIMS_TABLE: Final = "uploads"
CONTENTS_TABLE: Final = "contents"
EMBEDDINGS_TABLE: Final = "embeddings"


def group_of(agent: str) -> str:
    """Return the consumer group of `agent` without the installation's prefix. It is the id of its Faust app too."""
    return f"sightline.{agent}"


def changelog_of(table: str) -> str:
    """Return the changelog of a table of the score agent, named as Faust names it: <app id>-<table>-changelog."""
    return f"{group_of('score')}-{table}-changelog"


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table of the score agent. `kept_as` is the field of TableSettings with the lifetime of its entries."""

    name: str
    key: str
    kept_as: str

    @property
    def changelog(self) -> str:
        """The topic from which the table is restored."""
        return changelog_of(self.name)

    def days(self, settings: TableSettings) -> float:
        """Return the lifetime of an entry."""
        days: float = getattr(settings, self.kept_as)
        return days


TABLES: Final = (
    TableSpec(CLAIMS_TABLE, "upload id", "claims_days"),
    TableSpec(CONTENTS_TABLE, "sha256", "contents_days"),
    TableSpec(EMBEDDINGS_TABLE, "sha256", "embeddings_days"),
)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic: its records, its retention, and the readers and writers that are no agents.

    `record` names the record of schemas/ (None: raw bytes that are not ours). `scoring` topics share one partition
    count, because the tables of the score agent are partitioned with them; `single` topics have one partition. The
    changelog of a `table` is kept as long as its entries live.
    """

    name: str
    key: str
    record: str | None
    cleanup: str
    retention_ms: int
    other_writers: tuple[str, ...] = ()
    other_readers: tuple[str, ...] = ()
    single: bool = False
    scoring: bool = False
    table: TableSpec | None = None


def _changelog(table: TableSpec, settings: TableSettings) -> TopicSpec:
    kept_ms = round(table.days(settings) * DAY_MS)
    return TopicSpec(table.changelog, table.key, None, "compact,delete", kept_ms, scoring=True, table=table)


_RECORDS: Final = (
    TopicSpec(UPLOADS, "whatever the notifier uses", None, "delete", 7 * DAY_MS, other_writers=("buckets", "bridge")),
    TopicSpec(TASKS, "content hint", "ImageTask", "delete", 7 * DAY_MS, scoring=True),
    TopicSpec(
        BACKFILL,
        "content hint",
        "ImageTask",
        "delete",
        7 * DAY_MS,
        other_writers=("rescore", "reconcile"),
        scoring=True,
    ),
    TopicSpec(RETRIES_30S, "content hint", "ImageTask", "delete", 7 * DAY_MS, scoring=True),
    TopicSpec(RETRIES_5M, "content hint", "ImageTask", "delete", 7 * DAY_MS, scoring=True),
    TopicSpec(RETRIES_1H, "content hint", "ImageTask", "delete", 7 * DAY_MS, scoring=True),
    # Kept longer than the predictions: an index rebuilt from the topics must not bring removed images back.
    TopicSpec(REMOVED, "bucket/key", "ImageRemoved", "delete", 31 * DAY_MS, other_readers=("rescore", "lake")),
    TopicSpec(PREDICTIONS, "bucket/key", "ImagePrediction", "delete", 30 * DAY_MS, other_readers=("lake",)),
    TopicSpec(EMBEDDINGS, "sha256", "ContentEmbedding", "delete", 7 * DAY_MS, other_readers=("lake", "training")),
    TopicSpec(FLAGGED, "bucket/key", "FlaggedImage", "delete", 90 * DAY_MS, other_readers=("moderation", "lake")),
    TopicSpec(
        DECISIONS,
        "bucket/key",
        "ModerationDecision",
        "delete",
        FOREVER_MS,
        other_writers=("query service",),
        other_readers=("lake",),
    ),
    TopicSpec(LABELS, "bucket/key", "Label", "delete", FOREVER_MS, other_readers=("training",)),
    TopicSpec(
        DEAD_LETTERS,
        "source position",
        "DeadLetter",
        "delete",
        30 * DAY_MS,
        other_writers=("bridge",),
        other_readers=("dead-letters",),
    ),
    TopicSpec(
        CONTROL,
        "kind/name",
        "ControlRecord",
        "compact",
        FOREVER_MS,
        other_writers=("CLI",),
        other_readers=("every process",),
        single=True,
    ),
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
    """Return all topics, each changelog kept as long as the entries of its table live by these settings."""
    return (*_RECORDS, *(_changelog(table, tables) for table in TABLES))


# With the changelogs as the default settings keep them.
TOPICS: Final = topics_of(TableSettings())


def spec_of(name: str) -> TopicSpec:
    """Return the row of `name`; raises KeyError for a topic that is not ours."""
    for spec in TOPICS:
        if spec.name == name:
            return spec
    raise KeyError(name)
