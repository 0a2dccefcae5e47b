"""What FastAPI cannot see of itself for the OpenAPI document: scopes, problem documents, image paths."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from app.api.problems import PROBLEM_JSON
from app.domain.api_keys import SCOPES

_IMAGE_PATH: Final = "/v1/images/{bucket}/{key}"
_IMAGE_PARAMETERS: Final = {
    "bucket": "Bucket of the image.",
    "key": "Key of the image: percent-encoded as one segment, or with its slashes written literally.",
}
_PROBLEM: Final = {
    "title": "Problem",
    "description": "RFC 9457; `code` is stable, `detail` is for people. Some codes promise more fields.",
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
_SCHEMES: Final = {
    "api_key": {"type": "http", "scheme": "bearer", "description": "An API key, `slk_…`."},
    "api_key_header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "session": {"type": "apiKey", "in": "cookie", "name": "sightline_session"},
}
_REFUSALS: Final = {
    "401": "No valid API key.",
    "403": "The key lacks the scope.",
    "429": "Too many requests; see Retry-After.",
    "503": "Something that we need is away; see Retry-After.",
}


class DocumentedApi(FastAPI):
    """A FastAPI whose OpenAPI document tells what is outside of its routes, too."""

    def openapi(self) -> dict[str, Any]:
        """Return the document, made once."""
        made = self.openapi_schema is not None
        document = super().openapi()
        if not made:
            complete(document)
        return document


def complete(document: dict[str, Any]) -> None:
    """Add to `document` what every route here has in common."""
    for path, operations in document.get("paths", {}).items():
        for operation in operations.values():
            if path.startswith(_IMAGE_PATH):
                _add_image(operation)
            _add_key(operation)
            responses = operation["responses"]
            for status, told in responses.items():
                if int(status) >= 400:
                    responses[status] = {"description": told["description"], **_problem()}
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    # FastAPI's own form of a 422, which no route here answers with.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = _SCHEMES


def _add_image(operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    known = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
    for name, meaning in _IMAGE_PARAMETERS.items():
        if name not in known:
            parameters.append(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": meaning}
            )
    operation["responses"].setdefault("400", {"description": "The path names no possible key."})


def _add_key(operation: dict[str, Any]) -> None:
    """Say by which credentials `Allow` lets in; it names its scope as if it were a scheme."""
    scopes = [name for scheme in operation.get("security", ()) for name in scheme if name in SCOPES]
    if not scopes:
        return
    operation["security"] = [{name: scopes} for name in _SCHEMES]
    for status, meaning in _REFUSALS.items():
        operation["responses"].setdefault(status, {"description": meaning})


def _problem() -> dict[str, Any]:
    return {"content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
