"""Declarations of the lake's tables: the topic of each, and the columns that Kafka Connect adds to its records.

Connectors, tables, views, the data dictionary and `lake verify` are generated from these rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.topics import DECISIONS, EMBEDDINGS, FLAGGED, PREDICTIONS, REMOVED

KAFKA_TOPIC: Final = "kafka_topic"
KAFKA_PARTITION: Final = "kafka_partition"
KAFKA_OFFSET: Final = "kafka_offset"
KAFKA_TIMESTAMP: Final = "kafka_timestamp"
# Columns with a row's origin. The InsertField transforms of each connector write them.
COORDINATES: Final = (KAFKA_TOPIC, KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP)


@dataclass(frozen=True, slots=True)
class LakeTable:
    """One table: an immutable row for each record of `topic`, partitioned by the UTC day of publication.

    The partition is the day of publication, not of the upload: late events and rescorings of old uploads then go to
    today's partition instead of opening a file in each of a thousand days. Queries by upload time are pruned by the
    column bounds of each file.
    """

    name: str
    topic: str
    record: str

    @property
    def connector(self) -> str:
        """Name of the table's connector. The connector's consumer group is `connect-<name>`."""
        return f"lake-{self.name}"

    @property
    def control_topic(self) -> str:
        """Topic on which the connector's tasks agree on a commit. The sink requires one for each connector."""
        return f"lake.control.{self.name}.v1"


TABLES: Final = (
    LakeTable("predictions", PREDICTIONS, "ImagePrediction"),
    LakeTable("flagged", FLAGGED, "FlaggedImage"),
    LakeTable("decisions", DECISIONS, "ModerationDecision"),
    LakeTable("removals", REMOVED, "ImageRemoved"),
    LakeTable("embeddings", EMBEDDINGS, "ContentEmbedding"),
)


def table_named(name: str) -> LakeTable:
    """Return the table `name`. Raises KeyError for an unknown table."""
    for table in TABLES:
        if table.name == name:
            return table
    raise KeyError(name)
