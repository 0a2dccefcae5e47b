"""JSON of what the index knows; models.py describes the same for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from app.domain.moderation import is_publishable
from app.ports.index import IndexedImage
from app.ports.moderation import Lease
from app.serving.flag_view import flag_view, renditions_view
from schemas.records import ImagePrediction, ModelScores, ModerationDecision


def image_view(image: IndexedImage, prediction: ImagePrediction) -> dict[str, Any]:
    """Return an image with an outcome; `prediction` is that of `image`."""
    view = outcome_view(prediction)
    view["flag"] = None if image.flag is None else flag_view(image.flag)
    view["decision"] = None if image.decision is None else decision_view(image.decision)
    pending = image.pending
    view["publishable"] = is_publishable(prediction, image.flag, image.decision, pending=pending is not None)
    view["pending"] = None if pending is None else {"upload_id": pending.upload_id, "since_ms": pending.since_ms}
    return view


def outcome_view(outcome: ImagePrediction) -> dict[str, Any]:
    """Return one outcome."""
    timings = outcome.timings
    return {
        "bucket": outcome.bucket,
        "key": outcome.key,
        "version_id": outcome.version_id,
        "etag": outcome.etag,
        "size_bytes": outcome.size_bytes,
        "sha256": outcome.sha256,
        "upload_id": outcome.upload_id,
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "superseded": outcome.superseded,
        "cached": outcome.cached,
        "format": outcome.format,
        "width": outcome.width,
        "height": outcome.height,
        "frames": outcome.frames,
        "truncated": outcome.truncated,
        "publishable": outcome.publishable,
        "renditions": renditions_view(outcome.renditions),
        **scores_view(outcome.scores),
        "reasons": outcome.reasons,
        "times": {
            "uploaded_ms": outcome.event_time_ms,
            "identified_ms": outcome.identified_at_ms,
            "scored_ms": outcome.scored_at_ms,
            "queued_ms": timings.queued_ms,
            "fetch_ms": timings.fetch_ms,
            "decode_ms": timings.decode_ms,
            "infer_ms": timings.infer_ms,
            "total_ms": timings.total_ms,
        },
        "job_id": outcome.job_id,
    }


def scores_view(scores: Iterable[ModelScores]) -> dict[str, Any]:
    """Return scores by model and label, boxes, skipped cascades, versions, and labels from other renditions than 0."""
    values: dict[str, dict[str, float]] = {}
    regions: dict[str, list[dict[str, float]]] = {}
    skipped: dict[str, str] = {}
    versions: dict[str, str] = {}
    given_by: dict[str, dict[str, int]] = {}
    for entry in scores:
        others = {label.label: label.rendition for label in entry.labels if label.rendition}
        if others:
            given_by[entry.model] = others
        values[entry.model] = {label.label: label.value for label in entry.labels}
        versions[entry.model] = entry.version
        if entry.skipped:
            skipped[entry.model] = entry.skipped
        if entry.regions:
            regions[entry.model] = [
                {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom, "value": box.value}
                for box in entry.regions
            ]
    return {"scores": values, "rendition_of": given_by, "regions": regions, "skipped": skipped, "models": versions}


def content_view(outcome: ImagePrediction) -> dict[str, Any]:
    """Return the outcome of a content, and its latest bucket and key."""
    return {
        "sha256": outcome.sha256,
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "format": outcome.format,
        "width": outcome.width,
        "height": outcome.height,
        "frames": outcome.frames,
        "truncated": outcome.truncated,
        "publishable": outcome.publishable,
        "renditions": renditions_view(outcome.renditions),
        **scores_view(outcome.scores),
        "reasons": outcome.reasons,
        "scored_ms": outcome.scored_at_ms,
        "seen_as": {"bucket": outcome.bucket, "key": outcome.key},
    }


def decision_view(decision: ModerationDecision) -> dict[str, Any]:
    """Return a moderator's decision."""
    return {
        "decision_id": decision.decision_id,
        "decision": decision.decision,
        "reason": decision.reason,
        "moderator": decision.moderator,
        "reverses": decision.reverses,
        "decided_ms": decision.decided_at_ms,
    }


def made_decision_view(decision: ModerationDecision) -> dict[str, Any]:
    """Return a decision with its image and its labels."""
    return {
        **decision_view(decision),
        "bucket": decision.bucket,
        "key": decision.key,
        "upload_id": decision.upload_id,
        "flag_id": decision.flag_id,
        "policy": decision.policy,
        "policy_version": decision.policy_version,
        "labels": [
            {
                "model": label.model,
                "version": label.version,
                "label": label.label,
                "value": label.value,
                "score": label.score,
                "weight": label.weight,
            }
            for label in decision.labels
        ],
    }


def lease_view(lease: Lease, image: IndexedImage, prediction: ImagePrediction, now_ms: int) -> dict[str, Any]:
    """Return an image that is leased to a moderator."""
    waiting = lease.waiting
    return {
        "lease_id": lease.lease_id,
        "expires_ms": lease.expires_ms,
        "priority": waiting.weight,
        "waiting_seconds": max(0, now_ms - waiting.since_ms) / 1000,
        "image": image_view(image, prediction),
    }
