"""Errors as RFC 9457 problem documents: one form for every answer that is no success."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.errors import Retryable

PROBLEM_JSON: Final = "application/problem+json"
_TYPE: Final = "urn:sightline:problem:"
# What is away is asked again by our own adapters within seconds; a client need not come sooner.
RETRY_SECONDS: Final = 2
_CODES: Final = {404: "no_such_route", 405: "method_not_allowed", 413: "body_too_large"}


class Problem(Exception):
    """An answer that is no success: HTTP status, a stable code, a sentence, and what more the code promises."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more


def problem_answer(problem: Problem, request_id: str) -> Response:
    """Return the response of `problem`."""
    body = {
        "type": _TYPE + problem.code,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id,
        **problem.more,
    }
    return Response(orjson.dumps(body), problem.status, problem.headers, PROBLEM_JSON)


def invalid(where: str, what: str) -> Problem:
    """Return what a client is told whose request cannot be read; `where` is as in `query.wait`."""
    errors = [{"where": where.split("."), "what": what}]
    return Problem(422, "invalid_request", f"{where}: {what}", errors=errors)


def unavailable(error: Retryable) -> Problem:
    """Return what a client is told while something that we need is away."""
    return Problem(503, "unavailable", str(error), headers={"Retry-After": str(RETRY_SECONDS)})


def add_handlers(app: FastAPI) -> None:
    """Make every error of the routes a problem document."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return problem_answer(error, request_id_of(request))

    @app.exception_handler(Retryable)
    async def _retryable(request: Request, error: Retryable) -> Response:
        return problem_answer(unavailable(error), request_id_of(request))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        # Where and what, never the value: it may be a credential or a picture.
        errors = [{"where": [str(part) for part in one["loc"]], "what": str(one["msg"])} for one in error.errors()]
        detail = "; ".join(f"{'.'.join(one['where'])}: {one['what']}" for one in errors[:5])
        return problem_answer(Problem(422, "invalid_request", detail, errors=errors), request_id_of(request))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "refused")
        found = Problem(error.status_code, code, str(error.detail), headers=error.headers)
        return problem_answer(found, request_id_of(request))


def request_id_of(request: Request) -> str:
    """Return the id that the answer's X-Request-Id carries."""
    return str(request.scope.get("state", {}).get("request_id", ""))
