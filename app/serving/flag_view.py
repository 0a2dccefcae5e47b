"""JSON of a flag."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from schemas.records import FlaggedImage, Rendition, RuleMatch


def flag_view(flag: FlaggedImage) -> dict[str, Any]:
    """Return a flag without its image; times in Unix milliseconds."""
    return {
        "flag_id": flag.flag_id,
        "state": flag.state,
        "action": flag.action,
        "severity": flag.severity,
        "policy": flag.policy,
        "policy_version": flag.policy_version,
        "decided_ms": flag.decided_at_ms,
        "rules": rules_view(flag.rules),
        "frames": flag.frames,
        "truncated": flag.truncated,
        "renditions": renditions_view(flag.renditions),
    }


def renditions_view(renditions: Iterable[Rendition]) -> list[dict[str, Any]]:
    """Return renditions: frame, part of it, ground."""
    return [
        {
            "frame": rendition.frame,
            "left": rendition.left,
            "top": rendition.top,
            "right": rendition.right,
            "bottom": rendition.bottom,
            "ground": rendition.ground,
        }
        for rendition in renditions
    ]


def rules_view(rules: Iterable[RuleMatch]) -> list[dict[str, Any]]:
    """Return rules that match, each with the conditions that hold."""
    return [dataclasses.asdict(rule) for rule in rules]


def flagged_image_view(flag: FlaggedImage) -> dict[str, Any]:
    """Return an event of the stream of flagged images: image, flag, and the action before a rescoring."""
    return {
        "bucket": flag.bucket,
        "key": flag.key,
        "version_id": flag.version_id,
        "upload_id": flag.upload_id,
        "sha256": flag.sha256,
        **flag_view(flag),
        "previous_action": flag.previous_action or None,
        "job_id": flag.job_id,
    }
