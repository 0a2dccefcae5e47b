"""Parts of the OpenAPI document that FastAPI cannot derive: scopes, problem documents, image paths."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from app import __version__
from app.api.guards.auth import SESSION_COOKIE
from app.api.problems import PROBLEM_JSON
from app.domain.api_keys import SCOPES
from app.domain.object_names import MAX_BUCKET_BYTES, MAX_KEY_BYTES

_DESCRIPTION: Final = """\
What Sightline knows of images: scores of every model, flags of the policy, decisions of moderators; and scores of
pictures that are in no bucket, while the caller waits.

Every request below `/v1` needs an API key, as `Authorization: Bearer slk_…` or `X-Api-Key`, or a session of the
console; each operation names the scope that the key must have. Whatever is no success is a problem document (RFC 9457)
whose `code` is stable; docs/api.md lists the codes.

Limits as delivered: a picture to score has 10 MiB at most, any other body 1 MiB; `images:batchGet` takes 500 images;
`wait` is 30 s at most; a key may ask 1,000 times a second; a bucket has 1 to 255 bytes, a key 1 to 1,024 bytes, both
UTF-8 without NUL.
"""
_TAGS: Final = {
    "images": "What is known of images.",
    "score": "Scores while the caller waits.",
    "moderation": "The queue of flagged images, and decisions on them.",
    "stream": "Flags as they are decided.",
    "operations": "Figures for operators.",
    "models": "What judges pictures, and by which rules.",
    "console": "Sessions of the console.",
    "system": "Health, readiness, metrics: open to everybody.",
}
_IMAGE_PATH: Final = "/v1/images/{bucket}/{key}"
_TEXT: Final = {"type": "string", "minLength": 1, "pattern": "^[^\\x00]+$"}
_IMAGE_PARAMETERS: Final = {
    "bucket": ("Bucket of the image.", MAX_BUCKET_BYTES),
    "key": (
        "Key of the image: percent-encoded as one segment, or with its slashes written literally.",
        MAX_KEY_BYTES,
    ),
}
_PROBLEM: Final = {
    "title": "Problem",
    "description": "RFC 9457; `code` is stable, `detail` is for people. Some codes promise more fields.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "`urn:sightline:problem:` and the code"},
        "title": {"type": "string", "description": "the status in words"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "code": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
        "request_id": {"type": "string", "description": "as in X-Request-Id; the log has it"},
    },
}
_SCHEMES: Final = {
    "api_key": {"type": "http", "scheme": "bearer", "description": "An API key, `slk_…`."},
    "api_key_header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": "Of `POST /console/session`. What changes something needs `X-Sightline-Console: 1` as well.",
    },
}
_REFUSALS: Final = {
    "401": "No valid API key.",
    "403": "The key lacks the scope.",
    "429": "Too many requests; see Retry-After.",
    "503": "Something that we need is away; see Retry-After.",
}
_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Seconds until it is worth trying; left out where waiting does not help.",
        "schema": {"type": "integer", "minimum": 0},
    }
}
_LATER: Final = frozenset({"429", "503"})
# A body that takes too long; the server refuses it on every route.
_BODY_REFUSALS: Final = {"408": "The body did not come in time.", "413": "The body is too large."}


class DocumentedApi(FastAPI):
    """FastAPI application whose OpenAPI document also describes what is outside of its routes."""

    def __init__(self) -> None:
        super().__init__(
            title="Sightline",
            version=__version__,
            description=_DESCRIPTION,
            license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
            openapi_tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
            docs_url=None,
            redoc_url=None,
            # A redirect to another form of the path would lead to another key.
            redirect_slashes=False,
            # Metrics are in app/metrics.py; FastAPI's own would read the environment at each request.
            telemetry={"tracing": False, "metrics": False, "logs": False},
        )

    def add(self, router: APIRouter) -> None:
        """Serve the routes of `router`, which have complete paths. Included routers would be matched twice."""
        for route in router.routes:
            if isinstance(route, APIRoute):
                route.unique_id = route.name  # stable, and a decent name in generated clients
            self.router.routes.append(route)

    def openapi(self) -> dict[str, Any]:
        """Return the document, which is created once."""
        made = self.openapi_schema is not None
        document = super().openapi()
        if not made:
            complete(document)
        return document


def complete(document: dict[str, Any]) -> None:
    """Add to `document` what all routes have in common."""
    for path, operations in document.get("paths", {}).items():
        for operation in operations.values():
            if path.startswith(_IMAGE_PATH):
                _add_image(operation)
            _add_key(operation)
            _add_problems(operation)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    # FastAPI's own format of a 422, which no route uses.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = _SCHEMES


def _add_image(operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    known = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
    for name, (meaning, most) in _IMAGE_PARAMETERS.items():
        if name not in known:
            schema = {**_TEXT, "maxLength": most}
            parameters.append({"name": name, "in": "path", "required": True, "schema": schema, "description": meaning})
    operation["responses"].setdefault("400", {"description": "The path names no possible key."})


def _add_key(operation: dict[str, Any]) -> None:
    """Describe the credentials that `Allow` accepts; FastAPI treats its scope as a scheme."""
    scopes = [name for scheme in operation.get("security", ()) for name in scheme if name in SCOPES]
    if not scopes:
        return
    needed = " and ".join(f"`{scope}`" for scope in scopes)
    operation["description"] = f"{operation.get('description', '')}\n\nNeeds a key with the scope {needed}.".strip()
    operation["security"] = [{name: scopes} for name in _SCHEMES]
    for status, meaning in _REFUSALS.items():
        operation["responses"].setdefault(status, {"description": meaning})


def _add_problems(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if "requestBody" in operation:
        for status, meaning in _BODY_REFUSALS.items():
            responses.setdefault(status, {"description": meaning})
    for status, response in responses.items():
        if int(status) >= 400:
            responses[status] = {"description": response["description"], **_problem()}
            if status in _LATER:
                responses[status]["headers"] = _RETRY_AFTER
    operation["responses"] = dict(sorted(responses.items()))


def _problem() -> dict[str, Any]:
    return {"content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
