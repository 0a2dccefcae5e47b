"""Who calls, and what that key may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import Request

Scope = Literal["read", "score", "moderate", "admin"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The API key behind a request, by header or by a console session; `name` is who decides."""

    key_id: str
    name: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Allow:
    """The dependency that lets keys with `scope` in and gives their Caller; others get 401 or 403."""

    scope: Scope

    async def __call__(self, request: Request) -> Caller:
        """Return the caller."""
        raise NotImplementedError(self.scope)


def allow(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """Return the dependency that lets keys with `scope` in and gives their Caller; others get 401 or 403."""
    return Allow(scope)
