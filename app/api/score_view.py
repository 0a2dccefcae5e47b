"""What POST /v1/score answers, as JSON and as the schema of it."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from app.services.score_content import ScoredContent

_NUMBERS_BY_LABEL: Final = {"type": "object", "additionalProperties": {"type": "number"}}
_TEXTS_BY_MODEL: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_FRACTION: Final = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT: Final = {"type": "integer", "minimum": 0}


def _record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


_CONDITION: Final = _record(
    model={"type": "string"},
    version={"type": "string"},
    label={"type": "string"},
    value={"type": "number"},
    op={"type": "string"},
    threshold={"type": "number"},
    cached={"type": "boolean"},
)
_RULE: Final = _record(
    rule={"type": "string"},
    action={"type": "string"},
    severity=_COUNT,
    explanation={"type": "string"},
    conditions={"type": "array", "items": _CONDITION},
)
_REGION: Final = _record(left=_FRACTION, top=_FRACTION, right=_FRACTION, bottom=_FRACTION, value={"type": "number"})
SCORE_SCHEMA: Final = _record(
    sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"},
    outcome={"type": "string", "enum": ["scored"]},
    cached={"type": "boolean", "description": "nothing was computed for this request"},
    format={"type": "string"},
    width=_COUNT,
    height=_COUNT,
    size_bytes=_COUNT,
    scores={"type": "object", "description": "model → label → value", "additionalProperties": _NUMBERS_BY_LABEL},
    regions={"type": "object", "additionalProperties": {"type": "array", "items": _REGION}},
    skipped={
        **_TEXTS_BY_MODEL,
        "description": "why a cascade did not need to run; its labels hold its condition's value",
    },
    reasons={"type": "array", "items": {"type": "string"}, "description": "codes of labels over their threshold"},
    models={**_TEXTS_BY_MODEL, "description": "model → version"},
    action={"type": "string", "enum": ["none", "advise", "notify", "review", "block"]},
    rules={
        "type": "array",
        "items": _RULE,
        "description": "rules of the policy that flag the picture, strongest first",
    },
    timings_ms=_record(queued=_COUNT, decode=_COUNT, infer=_COUNT, total=_COUNT),
)


def score_view(found: ScoredContent) -> dict[str, Any]:
    """Return the body of a 200."""
    return {
        "sha256": found.sha256,
        "outcome": "scored",
        "cached": found.cached,
        "format": found.format,
        "width": found.width,
        "height": found.height,
        "size_bytes": found.size_bytes,
        "scores": {one.model: {label.label: label.value for label in one.labels} for one in found.scores},
        "regions": {
            one.model: [dataclasses.asdict(region) for region in one.regions] for one in found.scores if one.regions
        },
        "skipped": {one.model: one.skipped for one in found.scores if one.skipped},
        "reasons": found.reasons,
        "models": {one.model: one.version for one in found.scores},
        "action": found.action or "none",
        "rules": [dataclasses.asdict(rule) for rule in found.rules],
        "timings_ms": {
            "queued": found.timings.queued_ms,
            "decode": found.timings.decode_ms,
            "infer": found.timings.infer_ms,
            "total": found.total_ms,
        },
    }
