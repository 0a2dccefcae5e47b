"""Parts of the OpenAPI document: schemas of answers without a response model, and the problems of every route."""

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
# Problems of every route below /v1, in addition to those that app/api/openapi.py adds to all routes.
COMMON: Final = (401, 403, 422, 429, 503)


def problems(*statuses: int) -> Responses:
    """Return the responses for these statuses; app/api/openapi.py adds that they are problem documents."""
    return {status: {"description": _MEANINGS[status]} for status in statuses}


def answer(meaning: str, schema: Schema, media_type: str = "application/json") -> dict[str, Any]:
    """Return the response for a success."""
    return {"description": meaning, "content": {media_type: {"schema": schema}}}


def problem(meaning: str) -> dict[str, Any]:
    """Return the response for a status, with the codes that it can have."""
    return {"description": meaning}


def guarded(scope: str, more: Mapping[int | str, dict[str, Any]]) -> Responses:
    """Return the responses of a route for keys with `scope`: `more`, and those common to all such routes."""
    common: Responses = {
        401: problem("`unauthorized`: no key, or an invalid one"),
        403: problem(f"`forbidden`: a key without the scope `{scope}`"),
        422: problem("`invalid_request`: a parameter is invalid"),
        429: problem("`rate_limited`: the key exceeds its rate"),
        503: problem("`unavailable`: a system that the answer needs does not answer"),
    }
    return {**common, **more}
