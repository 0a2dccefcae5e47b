"""Pieces of the OpenAPI document: schemas of answers that are made by hand, and the problems of every route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.api.problems import PROBLEM_JSON

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


_PROBLEM: Final = record(type=TEXT, title=TEXT, status={"type": "integer"}, detail=TEXT, code=TEXT, request_id=TEXT)
_RETRY_AFTER: Final = {
    "Retry-After": {"schema": {"type": "integer"}, "description": "seconds until it is worth trying"}
}


def answer(meaning: str, schema: Schema, media_type: str = "application/json") -> dict[str, Any]:
    """Return what the document says of a success."""
    return {"description": meaning, "content": {media_type: {"schema": schema}}}


def problem(meaning: str, *, retry: bool = False) -> dict[str, Any]:
    """Return what the document says of a status that is answered with a problem."""
    found = answer(meaning, _PROBLEM, PROBLEM_JSON)
    return {**found, "headers": _RETRY_AFTER} if retry else found


def guarded(scope: str, more: Mapping[int | str, dict[str, Any]]) -> Responses:
    """Return the responses of a route for keys with `scope`: `more`, and what each such route may answer."""
    common: Responses = {
        401: problem("`unauthorized`: no key, or none that is known"),
        403: problem(f"`forbidden`: a key without the scope `{scope}`"),
        422: problem("`invalid_request`: a parameter is not as it must be"),
        429: problem("`rate_limited`: this key asks too often", retry=True),
        503: problem("`unavailable`: something that the answer needs is away", retry=True),
    }
    return {**common, **more}
