"""JSON of models and policies, from their folders and from control.v1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.domain.policy.rules import Policy, condition_in_words
from app.inference.active import active_manifests
from app.inference.manifest import ModelManifest
from app.inference.registry import find_manifests
from app.pipeline.control_topic import read_control
from app.pipeline.moderate import POLICY_KIND
from app.pipeline.policies import read_policy
from app.ports.records import RecordCodec
from app.ports.topics import TopicLog
from app.settings import InferenceSettings


def model_views(inference: InferenceSettings) -> list[dict[str, Any]]:
    """Return every model version, by name and version; reads files. Raises ManifestError, ConfigurationError."""
    active = {manifest.id for manifest in active_manifests(inference)}
    return [_model_view(manifest, manifest.id in active) for manifest in find_manifests(inference.models_dir)]


def _model_view(manifest: ModelManifest, active: bool) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "kind": manifest.kind.value,
        "runtime": manifest.runtime.value,
        "active": active,
        "labels": list(manifest.labels),
        "needs": list(manifest.depends_on()),
        "thresholds": dict(manifest.thresholds),
        "reasons": {
            label: {"code": reason.code, "advice": reason.advice} for label, reason in manifest.reasons.items()
        },
        "licence": manifest.licence,
        "trained_on": manifest.trained_on,
        "quality": dict(manifest.quality),
    }


def policy_view(path: Path) -> dict[str, Any]:
    """Return the policy in `path`, its conditions in words; reads a file. Raises PolicyError."""
    policy: Policy = read_policy(path)
    return {
        "name": policy.name,
        "version": policy.full_version,
        "description": policy.description,
        "rules": [
            {
                "rule": rule.id,
                "action": rule.action,
                "severity": rule.severity,
                "description": rule.description,
                "when": condition_in_words(rule.when),
            }
            for rule in policy.rules
        ],
    }


async def recorded_policies(log: TopicLog, codec: RecordCodec) -> list[dict[str, Any]]:
    """Return the policy versions that workers have applied, newest first. Raises BrokerUnavailable, StartupRefused."""
    records = (await read_control(log, codec, POLICY_KIND)).values()
    return [
        {
            "name": record.name.rpartition("/")[0],
            "version": record.name.rpartition("/")[2],
            "written_ms": record.written_at_ms,
            "written_by": record.written_by,
        }
        for record in sorted(records, key=lambda stored: (-stored.written_at_ms, stored.name))
    ]
