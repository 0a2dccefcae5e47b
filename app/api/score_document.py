"""JSON of POST /v1/score: its bodies and its answer, for the OpenAPI document and for the answer itself."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel

from app.api.models import Region, Rendition, Rule
from app.api.views import scores_view
from app.serving.flag_view import renditions_view, rules_view
from app.serving.score_content import ScoredContent

_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}
_REFERENCE_SCHEMA: Final = {
    "type": "object",
    "required": ["bucket", "key"],
    "additionalProperties": False,
    "properties": {
        "bucket": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": 63},
        "key": {"type": "string", "minLength": 1, "maxLength": 1024},
        "version_id": {"type": ["string", "null"], "minLength": 1, "maxLength": 1024},
        "etag": {"type": ["string", "null"], "minLength": 1, "maxLength": 200},
    },
}
_FORM_SCHEMA: Final = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {"file": {"type": "string", "format": "binary"}},
}
REQUEST_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "The picture itself, as a body or as the field `file` of a form, or a reference to its object.",
    "content": {
        "application/octet-stream": _BYTES,
        "image/*": _BYTES,
        "multipart/form-data": {"schema": _FORM_SCHEMA},
        "application/json": {"schema": _REFERENCE_SCHEMA},
    },
}


class ScoreTimings(BaseModel):
    """Milliseconds: waiting for a thread or a batch, decoding, inference, and from body to answer."""

    queued: int
    decode: int
    infer: int
    total: int


class Score(BaseModel):
    """Result of models and policy for a picture. `cached`: nothing was computed for this request.

    `scores`: model → label → value. `skipped`: why a cascade did not need to run (its labels then have the value of its
    condition). `reasons`: codes of labels that reach their threshold. `rules`: rules that flag the picture.
    `rendition_of`: model → label → index into `renditions` of the rendition with the value; 0 if not listed.
    `publishable`: the policy does not block the picture.
    """

    sha256: str
    outcome: Literal["scored"]
    cached: bool
    format: str
    width: int
    height: int
    frames: int
    truncated: bool
    renditions: list[Rendition]
    size_bytes: int
    scores: dict[str, dict[str, float]]
    rendition_of: dict[str, dict[str, int]]
    regions: dict[str, list[Region]]
    skipped: dict[str, str]
    models: dict[str, str]
    reasons: list[str]
    publishable: bool
    action: Literal["none", "advise", "notify", "review", "block"]
    rules: list[Rule]
    timings_ms: ScoreTimings


def score_view(scored: ScoredContent) -> dict[str, Any]:
    """Return the body of a 200."""
    timings = scored.timings
    return {
        "sha256": scored.sha256,
        "outcome": "scored",
        "cached": scored.cached,
        "format": scored.format,
        "width": scored.width,
        "height": scored.height,
        "frames": scored.frames,
        "truncated": scored.truncated,
        "renditions": renditions_view(scored.renditions),
        "size_bytes": scored.size_bytes,
        **scores_view(scored.scores),
        "reasons": scored.reasons,
        "publishable": scored.publishable,
        "action": scored.action or "none",
        "rules": rules_view(scored.rules),
        "timings_ms": {
            "queued": timings.queued_ms,
            "decode": timings.decode_ms,
            "infer": timings.infer_ms,
            "total": scored.total_ms,
        },
    }
