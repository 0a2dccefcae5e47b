"""What the index knows, as the JSON that clients read; models.py describes the same for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from app.domain.moderation import is_publishable
from app.ports.index import IndexedImage
from app.ports.moderation import Lease
from app.serving.flag_view import flag_view, renditions_view
from schemas.records import ImagePrediction, ModelScores, ModerationDecision


def image_view(found: IndexedImage, prediction: ImagePrediction) -> dict[str, Any]:
    """Return an image with an outcome; `prediction` is that of `found`."""
    view = outcome_view(prediction)
    view["flag"] = None if found.flag is None else flag_view(found.flag)
    view["decision"] = None if found.decision is None else decision_view(found.decision)
    pending = found.pending
    view["publishable"] = is_publishable(prediction, found.flag, found.decision, pending=pending is not None)
    view["pending"] = None if pending is None else {"upload_id": pending.upload_id, "since_ms": pending.since_ms}
    return view


def outcome_view(one: ImagePrediction) -> dict[str, Any]:
    """Return one outcome."""
    timings = one.timings
    return {
        "bucket": one.bucket,
        "key": one.key,
        "version_id": one.version_id,
        "etag": one.etag,
        "size_bytes": one.size_bytes,
        "sha256": one.sha256,
        "upload_id": one.upload_id,
        "outcome": one.outcome,
        "reason": one.reason,
        "detail": one.detail,
        "superseded": one.superseded,
        "cached": one.cached,
        "format": one.format,
        "width": one.width,
        "height": one.height,
        "frames": one.frames,
        "truncated": one.truncated,
        "publishable": one.publishable,
        "renditions": renditions_view(one.renditions),
        **scores_view(one.scores),
        "reasons": one.reasons,
        "times": {
            "uploaded_ms": one.event_time_ms,
            "identified_ms": one.identified_at_ms,
            "scored_ms": one.scored_at_ms,
            "queued_ms": timings.queued_ms,
            "fetch_ms": timings.fetch_ms,
            "decode_ms": timings.decode_ms,
            "infer_ms": timings.infer_ms,
            "total_ms": timings.total_ms,
        },
        "job_id": one.job_id,
    }


def scores_view(scores: Iterable[ModelScores]) -> dict[str, Any]:
    """Return scores by model and label, boxes, what was not run, versions, and labels of another rendition than 0."""
    values: dict[str, dict[str, float]] = {}
    regions: dict[str, list[dict[str, float]]] = {}
    skipped: dict[str, str] = {}
    versions: dict[str, str] = {}
    given_by: dict[str, dict[str, int]] = {}
    for one in scores:
        others = {label.label: label.rendition for label in one.labels if label.rendition}
        if others:
            given_by[one.model] = others
        values[one.model] = {label.label: label.value for label in one.labels}
        versions[one.model] = one.version
        if one.skipped:
            skipped[one.model] = one.skipped
        if one.regions:
            regions[one.model] = [
                {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom, "value": box.value}
                for box in one.regions
            ]
    return {"scores": values, "rendition_of": given_by, "regions": regions, "skipped": skipped, "models": versions}


def content_view(one: ImagePrediction) -> dict[str, Any]:
    """Return what is known of bytes, and under which name they were seen last."""
    return {
        "sha256": one.sha256,
        "outcome": one.outcome,
        "reason": one.reason,
        "format": one.format,
        "width": one.width,
        "height": one.height,
        "frames": one.frames,
        "truncated": one.truncated,
        "publishable": one.publishable,
        "renditions": renditions_view(one.renditions),
        **scores_view(one.scores),
        "reasons": one.reasons,
        "scored_ms": one.scored_at_ms,
        "seen_as": {"bucket": one.bucket, "key": one.key},
    }


def decision_view(decision: ModerationDecision) -> dict[str, Any]:
    """Return what a person decided."""
    return {
        "decision_id": decision.decision_id,
        "decision": decision.decision,
        "reason": decision.reason,
        "moderator": decision.moderator,
        "reverses": decision.reverses,
        "decided_ms": decision.decided_at_ms,
    }


def made_decision_view(decision: ModerationDecision) -> dict[str, Any]:
    """Return a decision with what it is about and which labels it makes."""
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
                "model": one.model,
                "version": one.version,
                "label": one.label,
                "value": one.value,
                "score": one.score,
                "weight": one.weight,
            }
            for one in decision.labels
        ],
    }


def lease_view(lease: Lease, found: IndexedImage, prediction: ImagePrediction, now_ms: int) -> dict[str, Any]:
    """Return an image that a moderator has for himself."""
    waiting = lease.waiting
    return {
        "lease_id": lease.lease_id,
        "expires_ms": lease.expires_ms,
        "priority": waiting.weight,
        "waiting_seconds": max(0, now_ms - waiting.since_ms) / 1000,
        "image": image_view(found, prediction),
    }
