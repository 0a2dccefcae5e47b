"""The Faust agents, each its own Faust app, consumer group and process.

s3.uploads ─► identify ─► image.tasks.v1 ─► score ─► image.predictions.v1 ─► moderate ─► image.flagged.v1
                 │        image.backfill.v1 ─┘ │ ▲          └──────────────► index ─► Redis
                 └─► image.removed.v1 ─────────┼─┼─────────────────────────────┘
                        image.retries.*.v1 ◄───┘ └── retry     moderation.decisions.v1 ─► label ─► labels.v1

`archive` is optional: it copies the records of topics with results to Parquet files on S3.

An agent's file names the topics that it reads and attaches one pump to each; what happens to a record is its processor
in app/pipeline.
"""

from __future__ import annotations

from typing import Final

PIPELINE: Final = ("identify", "score", "retry", "moderate", "label", "index")
AGENTS: Final = (*PIPELINE, "archive")
