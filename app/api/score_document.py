"""What the OpenAPI document says of POST /v1/score."""

from __future__ import annotations

from typing import Any, Final

from app.api.problems import PROBLEM_JSON
from app.api.score_view import SCORE_SCHEMA

_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}
REFERENCE_SCHEMA: Final = {
    "type": "object",
    "required": ["bucket", "key"],
    "additionalProperties": False,
    "properties": {
        "bucket": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": 255},
        "key": {"type": "string", "minLength": 1, "maxLength": 1024},
        "version_id": {"type": ["string", "null"], "minLength": 1, "maxLength": 1024},
        "etag": {"type": ["string", "null"], "minLength": 1, "maxLength": 256},
    },
}
_FORM_SCHEMA: Final = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary"}},
}
REQUEST_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "the picture itself, as a body or as the field `file` of a form, or the object that holds it",
    "content": {
        "application/octet-stream": _BYTES,
        "image/*": _BYTES,
        "multipart/form-data": {"schema": _FORM_SCHEMA},
        "application/json": {"schema": REFERENCE_SCHEMA},
    },
}
_PROBLEM_SCHEMA: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
    },
}
_RETRY_AFTER: Final = {
    "Retry-After": {"schema": {"type": "integer"}, "description": "seconds until it is worth trying"}
}


def problem(meaning: str, *, retry: bool = False) -> dict[str, Any]:
    """Return what the document says of one status that is answered with a problem."""
    found: dict[str, Any] = {"description": meaning, "content": {PROBLEM_JSON: {"schema": _PROBLEM_SCHEMA}}}
    return {**found, "headers": _RETRY_AFTER} if retry else found


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "the scores", "content": {"application/json": {"schema": SCORE_SCHEMA}}},
    401: problem("no key, or none that is known"),
    403: problem("a key without the scope `score`; `bucket_not_served`: uploads there are not scored"),
    404: problem("`no_such_object`: nothing, or another version, lies where the reference points"),
    408: problem("`body_too_slow`: the body did not come in time"),
    413: problem("`body_too_large`"),
    415: problem("`unsupported_media_type`: not one of the kinds of bodies"),
    422: problem("`invalid_request`, or why this is no picture of ours (the reason codes of docs/images.md)"),
    429: problem(
        "`overloaded`: too much in hand, or more than fits into the deadline; or too many requests", retry=True
    ),
    503: problem(
        "`models_loading`, `models_failed`, `scoring_off`; `unavailable`: what the request needs is away", retry=True
    ),
    504: problem("`deadline_exceeded`: not done by X-Deadline-Ms"),
}
