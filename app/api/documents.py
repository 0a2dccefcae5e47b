"""Pieces of the OpenAPI document: schemas of answers that are made by hand, and the problems of every route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

TEXT: Final[Schema] = {"type": "string"}
TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number"}
NUMBER_OR_NULL: Final[Schema] = {"type": ["number", "null"]}
SWITCH: Final[Schema] = {"type": "boolean"}
UNIX_MS: Final[Schema] = {"type": "integer", "description": "Unix time in milliseconds"}


def record(**properties: Schema) -> Schema:
    """Return the schema of an object that always has these properties."""
    return {"type": "object", "required": list(properties), "properties": properties}


def listed(items: Schema, meaning: str = "") -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items} | ({"description": meaning} if meaning else {})


def by_name(values: Schema, meaning: str = "") -> Schema:
    """Return the schema of an object whose property names are not fixed."""
    return {"type": "object", "additionalProperties": values} | ({"description": meaning} if meaning else {})


_MEANINGS: Final = {
    400: "The request's path or header cannot be read.",
    401: "No valid API key.",
    403: "The key lacks the scope, or this place is not served.",
    404: "Nothing is known of it; `code` says which kind of nothing.",
    409: "It does not fit what is known of the image.",
    408: "The body did not come in time.",
    413: "The body is too large; it was not read.",
    415: "The content type is none that is understood.",
    422: "The request, or the picture in it, cannot be read.",
    429: "Too much at once; Retry-After says when to come again.",
    500: "A fault of ours; the request id finds it in the log.",
    503: "Something that is needed is away; Retry-After says when to come again.",
    504: "Not done within the request's deadline.",
}
# What every route below /v1 may answer, besides what app/api/openapi.py says of all of them.
COMMON: Final = (401, 403, 422, 429, 503)


def problems(*statuses: int) -> Responses:
    """Return what the document says of these statuses; that they are problem documents is said of all of them."""
    return {status: {"description": _MEANINGS[status]} for status in statuses}


def answer(meaning: str, schema: Schema, media_type: str = "application/json") -> dict[str, Any]:
    """Return what the document says of a success."""
    return {"description": meaning, "content": {media_type: {"schema": schema}}}


def problem(meaning: str) -> dict[str, Any]:
    """Return what the document says of a status whose codes are worth naming."""
    return {"description": meaning}


def guarded(scope: str, more: Mapping[int | str, dict[str, Any]]) -> Responses:
    """Return the responses of a route for keys with `scope`: `more`, and what each such route may answer."""
    common: Responses = {
        401: problem("`unauthorized`: no key, or none that is known"),
        403: problem(f"`forbidden`: a key without the scope `{scope}`"),
        422: problem("`invalid_request`: a parameter is not as it must be"),
        429: problem("`rate_limited`: this key asks too often"),
        503: problem("`unavailable`: something that the answer needs is away"),
    }
    return {**common, **more}
