"""Authentication: the API key of a request, and its scopes."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from app.api.dependencies import ApiParts, parts_of
from app.api.problems import Problem
from app.domain.api_keys import ApiKey, Scope
from app.domain.sessions import session_digest
from app.errors import BrokerUnavailable

SESSION_COOKIE: Final = "sightline_session"
CONSOLE_HEADER: Final = "X-Sightline-Console"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """API key of a request, by header or by a console session. `name` is recorded in decisions."""

    key_id: str
    name: str
    scopes: frozenset[Scope]


class Allow(SecurityBase):
    """Dependency that admits keys with `scope`. As a security scheme it adds the scope to the OpenAPI document."""

    def __init__(self, scope: Scope) -> None:
        self.scope: Scope = scope
        self.scheme_name = scope
        self.model = HTTPBearer()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Allow) and other.scope == self.scope

    def __hash__(self) -> int:
        return hash(self.scope)

    async def __call__(self, request: Request) -> Caller:
        """Return the caller. Raises Problem 401, 403 or 429; Retryable if keys or sessions cannot be looked up."""
        state = request.scope["state"]
        # `KeyFirst` has already counted the request; the endpoint's dependency must not count it again.
        caller = state["caller"] = state.get("caller") or await caller_of(request)
        if self.scope not in caller.scopes:
            raise Problem(403, "forbidden", f"this needs a key with the scope `{self.scope}`", needed_scope=self.scope)
        return caller


class KeyFirst(APIRoute):
    """Route that authenticates the caller before it reads the body. FastAPI would parse the body first."""

    async def handle(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Answer the request. Raises as `Allow`; the application's handlers answer that."""
        if scope["method"] in (self.methods or ()):
            for needed in self.dependant.dependencies:
                if isinstance(needed.call, Allow):
                    await needed.call(Request(scope))
        await super().handle(scope, receive, send)


READ: Final = Allow("read")


def allow(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """Return the dependency that admits keys with `scope` and returns their Caller; others get 401, 403 or 429.

    No scope includes another: a key with `admin` alone may not `read`.
    """
    return Allow(scope)


async def caller_of(request: Request) -> Caller:
    """Return the caller, whatever the scopes, and count the request against the key's rate. Raises as `allow`."""
    parts = parts_of(request)
    token = _token(request)
    key = await session_key(request, parts) if token is None else find_key(parts, token)
    if key is None:
        raise not_signed_in()
    request.scope["state"]["key_id"] = key.id
    wait_seconds = parts.rates.take(key.id, key.rate_per_second)
    if wait_seconds > 0:
        raise rate_limited(wait_seconds, "this key has used up its requests of the moment")
    return Caller(key.id, key.name, key.scopes)


def find_key(parts: ApiParts, token: str) -> ApiKey | None:
    """Return the key of `token`. Raises BrokerUnavailable until the keys were read."""
    if not parts.keys.ready:
        raise BrokerUnavailable("the API keys have not been read yet: Kafka does not answer")
    return parts.keys.find(token)


async def session_key(request: Request, parts: ApiParts) -> ApiKey | None:
    """Return the key of the request's console session, None without a session. The session ends with its key.

    Raises Problem 403 for a request that a page of another site could have sent.
    """
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is None:
        return None
    if request.method not in _SAFE_METHODS and request.headers.get(CONSOLE_HEADER) != "1":
        raise Problem(403, "forbidden", f"a request by session cookie that changes something needs {CONSOLE_HEADER}: 1")
    session = await parts.sessions.find(session_digest(cookie))
    if session is None:
        return None
    if not parts.keys.ready:
        raise BrokerUnavailable("the API keys have not been read yet: Kafka does not answer")
    return parts.keys.valid(session.key_id)


def not_signed_in() -> Problem:
    """Return the answer to a missing, unknown, wrong, expired or revoked key. It is the same for all of them."""
    return Problem(
        401,
        "unauthorized",
        "a valid API key is needed: Authorization: Bearer slk_…",
        headers={"WWW-Authenticate": 'Bearer realm="sightline"'},
    )


def rate_limited(wait_seconds: float, detail: str) -> Problem:
    """Return the answer to a client that exceeds its rate; Retry-After counts whole seconds."""
    return Problem(429, "rate_limited", detail, headers={"Retry-After": str(max(1, math.ceil(wait_seconds)))})


def _token(request: Request) -> str | None:
    """Return the token in the headers, None without one. Credentials of another scheme are invalid."""
    offered = request.headers.get("authorization")
    if offered is None:
        return request.headers.get("x-api-key")
    scheme, _, token = offered.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
