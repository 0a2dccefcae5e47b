"""Errors as RFC 9457 problem documents, the format of every answer that is not a success."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from app.errors import Retryable

PROBLEM_JSON: Final = "application/problem+json"
_TYPE: Final = "urn:sightline:problem:"
# What is away is asked again by our own adapters within seconds; a client need not come sooner.
RETRY_SECONDS: Final = 2
_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_CODES: Final = {404: "no_such_route", 405: "method_not_allowed", 413: "body_too_large"}


class Problem(Exception):
    """Answer that is not a success: HTTP status, a stable code, a sentence, and further fields of the code."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more

    @property
    def title(self) -> str:
        """Its status in words."""
        return HTTPStatus(self.status).phrase


def problem_answer(problem: Problem, request_id: str) -> Response:
    """Return the response of `problem`."""
    body = {
        "type": _TYPE + problem.code,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id,
        **problem.more,
    }
    return Response(orjson.dumps(body), problem.status, problem.headers, PROBLEM_JSON)


def invalid_fields(errors: Iterable[Mapping[str, Any]], *before: str) -> Problem:
    """Return the problem for fields that pydantic refused; `before` is their place in the request."""
    # Where and what, never the value: it may be a credential or a picture.
    faults = [{"where": [*before, *map(str, error["loc"])], "what": str(error["msg"])} for error in errors]
    detail = "; ".join(f"{'.'.join(fault['where'])}: {fault['what']}" for fault in faults[:5])
    return Problem(422, "invalid_request", detail, errors=faults)


def invalid(where: str, what: str) -> Problem:
    """Return the problem for an invalid request; `where` is a path such as `query.wait`."""
    errors = [{"where": where.split("."), "what": what}]
    return Problem(422, "invalid_request", f"{where}: {what}", errors=errors)


def unavailable(error: Retryable) -> Problem:
    """Return the problem for an outage of a system that the answer needs."""
    return Problem(503, "unavailable", str(error), headers={"Retry-After": str(RETRY_SECONDS)})


def add_handlers(app: FastAPI) -> None:
    """Turn every error of the routes into a problem document."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return problem_answer(error, request_id_of(request))

    @app.exception_handler(Retryable)
    async def _retryable(request: Request, error: Retryable) -> Response:
        return problem_answer(unavailable(error), request_id_of(request))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return problem_answer(invalid_fields(error.errors()), request_id_of(request))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return problem_answer(_framework_problem(request, error), request_id_of(request))


def _framework_problem(request: Request, error: HTTPException) -> Problem:
    """Return the problem for a request that Starlette or FastAPI refuses."""
    status = error.status_code
    if status == 400:
        # FastAPI says so where reading JSON ends with anything but a syntax error: bytes that are no UTF-8, a number of
        # thousands of digits, brackets a thousand deep.
        return invalid("body", "cannot be read as JSON")
    if status == 405:
        return Problem(status, _CODES[status], "this path has other methods", headers={"Allow": _methods(request)})
    return Problem(status, _CODES.get(status, "refused"), str(error.detail), headers=error.headers)


def _methods(request: Request) -> str:
    """Return the methods of all routes with this path; Starlette returns those of the first."""
    scopes = [(method, {**request.scope, "method": method}) for method in _METHODS]
    routes = request.app.routes
    return ", ".join(method for method, scope in scopes if any(_takes(route, scope) for route in routes))


def _takes(route: BaseRoute, scope: Scope) -> bool:
    return route.matches(scope)[0] is Match.FULL


def request_id_of(request: Request) -> str:
    """Return the id that the answer's X-Request-Id carries."""
    return str(request.scope.get("state", {}).get("request_id", ""))
