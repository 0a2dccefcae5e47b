"""The agents, each its own Faust app, consumer group and process.

s3.uploads ─► identify ─► image.tasks.v1 ─► score ─► image.predictions.v1 ─► moderate ─► image.flagged.v1
                 │        image.backfill.v1 ─┘ │ ▲          └──────────────► index ─► Redis
                 └─► image.removed.v1 ─────────┼─┼─────────────────────────────┘
                        image.retries.*.v1 ◄───┘ └── retry     moderation.decisions.v1 ─► label ─► labels.v1

`archive` is optional: it copies the records of topics with results to Parquet files on S3.

Each agent is one row below. Consumer groups, readers and writers of topics, help texts and docs/topics.md derive from
the rows. A processor in app/pipeline decides what happens to a record.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from agents.declaration import Agent, Source, Wiring
from app.domain.archive import ARCHIVABLE
from app.errors import ConfigurationError
from app.ports.processing import Processor
from app.settings import LaneSettings, Settings
from app.topics import (
    BACKFILL,
    CONTROL,
    DECISIONS,
    EMBEDDINGS,
    FLAGGED,
    LABELS,
    PREDICTIONS,
    REMOVED,
    RETRIES_1H,
    RETRIES_5M,
    RETRIES_30S,
    TABLES,
    TASKS,
    UPLOADS,
)

_RETRIES: Final = (RETRIES_30S, RETRIES_5M, RETRIES_1H)
# A deferred task waits in a task of a few kilobytes. Tasks of one partition that are due late must not hold up the due
# tasks of another one.
_RETRY_CREDITS_FACTOR: Final = 8


def _identify(wiring: Wiring) -> Processor:
    from app.domain.filters import UploadFilter
    from app.pipeline.identify import IdentifyProcessor

    return IdentifyProcessor(UploadFilter.of(wiring.settings), wiring.clock, wiring.meters)


def _retry(wiring: Wiring) -> Processor:
    from app.pipeline.retry import RetryProcessor

    return RetryProcessor(wiring.codec, wiring.clock, wiring.status)


def _moderate(wiring: Wiring) -> Processor:
    from app.pipeline.moderate import ModerateProcessor
    from app.pipeline.policies import load_policy

    policy = load_policy(wiring.settings.policy.path, wiring.settings.inference.models_dir)
    return ModerateProcessor(wiring.codec, policy, wiring.clock, wiring.worker_id)


def _label(wiring: Wiring) -> Processor:
    from app.pipeline.label import LabelProcessor

    return LabelProcessor(wiring.codec, wiring.clock)


def _backfill_credits(settings: Settings) -> int:
    return settings.engine.backfill_in_flight


def _retry_credits(settings: Settings) -> int:
    return settings.engine.max_in_flight * _RETRY_CREDITS_FACTOR


def _archive_credits(settings: Settings) -> int:
    return settings.archive.in_flight


def _archive_lane(settings: Settings) -> LaneSettings:
    """Release a whole file of the archive at once: one offset, and no output."""
    return replace(settings.lane, release_results=max(settings.lane.release_results, settings.archive.file_records))


def _archived(settings: Settings) -> tuple[str, ...]:
    chosen = settings.archive.topics
    if not chosen or not set(chosen) <= set(ARCHIVABLE):
        raise ConfigurationError(
            f"SIGHTLINE_ARCHIVE_TOPICS={','.join(chosen)} must name at least one of {', '.join(ARCHIVABLE)}, and no "
            "other"
        )
    return chosen


IDENTIFY: Final = Agent(
    "identify",
    "turns bucket notifications into image tasks and removals",
    (Source(UPLOADS),),
    outputs=(TASKS, REMOVED),
    processor=_identify,
)
# The only agent with models.
SCORE: Final = Agent(
    "score",
    "scores the images of tasks, and defers tasks whose object cannot be read",
    (Source(TASKS), Source(BACKFILL, _backfill_credits, yields_to=TASKS)),
    outputs=(PREDICTIONS, EMBEDDINGS, *_RETRIES),
    tables=TABLES,
)
RETRY: Final = Agent(
    "retry",
    "holds deferred tasks until they are due; one topic for each delay",
    tuple(Source(topic, _retry_credits) for topic in _RETRIES),
    outputs=(TASKS, BACKFILL),
    processor=_retry,
)
MODERATE: Final = Agent(
    "moderate",
    "applies the moderation policy to predictions",
    (Source(PREDICTIONS),),
    outputs=(FLAGGED, CONTROL),
    processor=_moderate,
)
LABEL: Final = Agent(
    "label",
    "turns decisions of moderators into labels for training",
    (Source(DECISIONS),),
    outputs=(LABELS,),
    processor=_label,
)
INDEX: Final = Agent(
    "index",
    "writes the newest outcome of each image to Redis",
    tuple(Source(topic) for topic in (TASKS, REMOVED, PREDICTIONS, FLAGGED, DECISIONS)),
)
ARCHIVE: Final = Agent(
    "archive",
    "copies records to Parquet files on S3",
    tuple(Source(topic, _archive_credits) for topic in ARCHIVABLE),
    chosen=_archived,
    lane=_archive_lane,
    # It copies bytes that it never decodes, and a chain of its files must cover every offset.
    parks=False,
    optional=True,
)

AGENTS: Final = (IDENTIFY, SCORE, RETRY, MODERATE, LABEL, INDEX, ARCHIVE)
PIPELINE: Final = tuple(agent.name for agent in AGENTS if not agent.optional)
NAMES: Final = ", ".join(agent.name for agent in AGENTS)


def agent_named(name: str) -> Agent:
    """Return the agent `name`. Raises ConfigurationError for an unknown one."""
    for agent in AGENTS:
        if agent.name == name:
            return agent
    raise ConfigurationError(f"no agent is called {name!r}; choose one of {NAMES}")


def readers_of(topic: str) -> tuple[str, ...]:
    """Return the names of the agents that read `topic`; of a changelog, those that restore a table from it."""
    return tuple(agent.name for agent in AGENTS if topic in agent.topics or topic in _changelogs(agent))


def writers_of(topic: str) -> tuple[str, ...]:
    """Return the names of the agents that write `topic`."""
    return tuple(agent.name for agent in AGENTS if topic in agent.writes or topic in _changelogs(agent))


def _changelogs(agent: Agent) -> tuple[str, ...]:
    return tuple(table.changelog for table in agent.tables)
