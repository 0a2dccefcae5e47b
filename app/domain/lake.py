"""The lake's tables, declared once: which topic each holds, and the columns that Kafka Connect adds to its record.

Connectors, tables, views, the data dictionary and `lake verify` are made from these rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.topics import DECISIONS, EMBEDDINGS, FLAGGED, PREDICTIONS, REMOVED

KAFKA_TOPIC: Final = "kafka_topic"
KAFKA_PARTITION: Final = "kafka_partition"
KAFKA_OFFSET: Final = "kafka_offset"
KAFKA_TIMESTAMP: Final = "kafka_timestamp"
# Where a row came from; the transform InsertField of each connector writes them.
COORDINATES: Final = (KAFKA_TOPIC, KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP)


@dataclass(frozen=True, slots=True)
class LakeTable:
    """One table: a row for each record of `topic`, never changed, in a partition for each UTC day of its publication.

    By publication and not by upload time: late events and rescorings of years then fill today's partition, instead of
    opening a file in each of a thousand days; queries by upload time are pruned by the bounds of each file.
    """

    name: str
    topic: str
    record: str

    @property
    def connector(self) -> str:
        """Name of its connector; `connect-<name>` is its consumer group."""
        return f"lake-{self.name}"

    @property
    def control_topic(self) -> str:
        """Topic on which the connector's tasks agree on a commit; one each, as the sink demands."""
        return f"lake.control.{self.name}.v1"


TABLES: Final = (
    LakeTable("predictions", PREDICTIONS, "ImagePrediction"),
    LakeTable("flagged", FLAGGED, "FlaggedImage"),
    LakeTable("decisions", DECISIONS, "ModerationDecision"),
    LakeTable("removals", REMOVED, "ImageRemoved"),
    LakeTable("embeddings", EMBEDDINGS, "ContentEmbedding"),
)


def table_named(name: str) -> LakeTable:
    """Return the row of `name`; raises KeyError for a table that is not ours."""
    for table in TABLES:
        if table.name == name:
            return table
    raise KeyError(name)
