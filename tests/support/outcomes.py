"""Records as the pipeline writes them, with every field that a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain import identity
from app.domain.moderation import Verb, judged
from app.pipeline.index import ImageFacts
from app.ports.index import Index
from app.ports.moderation import ModerationQueue
from app.ports.records import SourceRecord
from app.settings import ModerationSettings
from app.systems.clock import SystemClock
from schemas.records import (
    FlaggedImage,
    ImagePrediction,
    ImageRemoved,
    ImageTask,
    LabelScore,
    ModelScores,
    ModerationDecision,
    Position,
    RuleCondition,
    RuleMatch,
    Timings,
)
from tests.support.memory.moderation import MemoryModerationQueue

MODERATION = ModerationSettings()
EVENT_MS = 1_795_000_000_000
QUALITY_LABELS = ("blurry", "dark", "overexposed", "noisy", "overcompressed", "overall")
CATEGORY_LABELS = ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")


def scores(model: str, *, cached: bool = False, version: str = "1", **labels: float) -> ModelScores:
    """What one model says."""
    return labelled(model, labels, cached=cached, version=version)


def labelled(model: str, labels: Mapping[str, float], *, cached: bool = False, version: str = "1") -> ModelScores:
    """As `scores`, for labels that are no Python names."""
    found = tuple(LabelScore(label, value) for label, value in labels.items())
    return ModelScores(model, version, "p1", found, (), cached=cached, skipped="")


def four_models(nsfw: float = 0.01) -> tuple[ModelScores, ...]:
    """Scores of the four models that ship, for sizes and speeds."""
    return (
        scores("nsfw", nsfw=nsfw),
        labelled("category", dict.fromkeys(CATEGORY_LABELS, 0.1)),
        labelled("quality", dict.fromkeys(QUALITY_LABELS, 0.2)),
        scores("embedded_text", text=0.03),
    )


def prediction(**changes: Any) -> ImagePrediction:
    """One scored upload; `order` sets the sequencer and what follows from it."""
    order = changes.pop("order", 1)
    fields: dict[str, Any] = {
        "bucket": "images",
        "key": "shop/photo-0001.jpg",
        "version_id": None,
        "etag": "b2ea9f7fcea831a4a63b213f41a8855b",
        "size_bytes": 116_000,
        "sha256": "5b0f7c5f8c1f6d5b6cf5b1cbb8a3e0b6ae1db5d1a5a3c8f0f3b4e9a2d7c6b5a4",
        "outcome": "scored",
        "reason": "",
        "detail": "",
        "superseded": False,
        "cached": False,
        "format": "jpeg",
        "width": 640,
        "height": 480,
        "scores": four_models(),
        "reasons": (),
        "previous": (),
        "dialect": "aws",
        "sequencer": f"006B0404{order:08X}",
        "order_key": identity.order_key("aws", f"006B0404{order:08X}", EVENT_MS + order),
        "event_name": "ObjectCreated:Put",
        "event_time_ms": EVENT_MS + order,
        "identified_at_ms": EVENT_MS + order + 20,
        "scored_at_ms": EVENT_MS + order + 200,
        "timings": Timings(12, 4, 6, 20, 42),
        "lane": "live",
        "attempt": 0,
        "job_id": None,
        "source": Position("s3.uploads", 0, order),
        "task": Position("image.tasks.v1", 0, order),
        "worker": "worker-1",
        "release": "0.1.0",
    } | changes
    if "upload_id" not in fields:
        fields["upload_id"] = identity.upload_id(
            bucket=fields["bucket"],
            key=fields["key"],
            version_id=fields["version_id"],
            etag=fields["etag"],
            sequencer=fields["sequencer"],
            dialect=fields["dialect"],
            event_time_ms=fields["event_time_ms"],
            job_id=fields["job_id"],
        )
    return ImagePrediction(**fields)


def removal(**changes: Any) -> ImageRemoved:
    """One deletion; `order` as in `prediction`."""
    order = changes.pop("order", 2)
    fields: dict[str, Any] = {
        "removal_id": f"removal-{order}",
        "bucket": "images",
        "key": "shop/photo-0001.jpg",
        "version_id": None,
        "delete_marker": False,
        "dialect": "aws",
        "sequencer": f"006B0404{order:08X}",
        "order_key": identity.order_key("aws", f"006B0404{order:08X}", EVENT_MS + order),
        "event_time_ms": EVENT_MS + order,
        "source": Position("s3.uploads", 0, order),
    } | changes
    return ImageRemoved(**fields)


def flag_of(outcome: ImagePrediction, **changes: Any) -> FlaggedImage:
    """The flag of one prediction."""
    fields: dict[str, Any] = {
        "flag_id": f"flag-{outcome.upload_id}",
        "upload_id": outcome.upload_id,
        "bucket": outcome.bucket,
        "key": outcome.key,
        "version_id": outcome.version_id,
        "etag": outcome.etag,
        "sha256": outcome.sha256,
        "state": "flagged",
        "action": "block",
        "severity": 90,
        "rules": (
            RuleMatch(
                "nsfw-block",
                "block",
                90,
                "block: nsfw nsfw 0.970 is at or above 0.85 (version 1)",
                (RuleCondition("nsfw", "1", "nsfw", 0.97, ">=", 0.85, cached=False),),
            ),
        ),
        "policy": "default",
        "policy_version": "1+000000000000",
        "changed": False,
        "previous_action": "",
        "previous_rules": (),
        "job_id": outcome.job_id,
        "superseded": outcome.superseded,
        "dialect": outcome.dialect,
        "order_key": outcome.order_key,
        "event_time_ms": outcome.event_time_ms,
        "scored_at_ms": outcome.scored_at_ms,
        "decided_at_ms": outcome.scored_at_ms + 15,
        "prediction": Position("image.predictions.v1", 0, 0),
    } | changes
    return FlaggedImage(**fields)


def source_record(
    value: bytes | None, *, topic: str = "image.predictions.v1", offset: int = 0, partition: int = 0
) -> SourceRecord:
    """A Kafka record as a lane hands it over."""
    return SourceRecord(topic, partition, offset, EVENT_MS, b"images/shop/photo-0001.jpg", value)


def facts_in(index: Index, queue: ModerationQueue | None = None) -> ImageFacts:
    """An index with a queue beside it, in memory where none is given."""
    return ImageFacts(index, queue or MemoryModerationQueue(MODERATION, SystemClock()), MODERATION.actions)


def task_of(outcome: ImagePrediction, **changes: Any) -> ImageTask:
    """The task that a prediction came from."""
    fields: dict[str, Any] = {
        "upload_id": outcome.upload_id,
        "bucket": outcome.bucket,
        "key": outcome.key,
        "alternate_key": None,
        "version_id": outcome.version_id,
        "etag": outcome.etag,
        "size_bytes": outcome.size_bytes,
        "dialect": outcome.dialect,
        "event_name": outcome.event_name,
        "sequencer": outcome.sequencer,
        "order_key": outcome.order_key,
        "event_time_ms": outcome.event_time_ms,
        "identified_at_ms": outcome.identified_at_ms,
        "source": outcome.source,
        "lane": "live",
        "attempt": 0,
        "not_before_ms": 0,
        "defer_reason": "",
        "job_id": None,
        "known_sha256": None,
        "models": (),
        "force": False,
        "previous": (),
    }
    return ImageTask(**{**fields, **changes})


def decision_of(flag: FlaggedImage, verb: Verb = "reject", *, number: int = 1, **changes: Any) -> ModerationDecision:
    """What a moderator decided of a flagged image; `number` orders decisions and names them apart."""
    fields: dict[str, Any] = {
        "decision_id": f"decision-{number}",
        "bucket": flag.bucket,
        "key": flag.key,
        "version_id": flag.version_id,
        "etag": flag.etag,
        "sha256": flag.sha256,
        "upload_id": flag.upload_id,
        "flag_id": flag.flag_id,
        "decision": verb,
        "reason": "",
        "moderator": "ana",
        "policy": flag.policy,
        "policy_version": flag.policy_version,
        "reverses": None,
        "dialect": flag.dialect,
        "order_key": flag.order_key,
        "event_time_ms": flag.event_time_ms,
        "decided_at_ms": flag.decided_at_ms + 1000 * number,
        "labels": judged(flag, verb, "", reverses=False),
    }
    return ModerationDecision(**{**fields, **changes})
