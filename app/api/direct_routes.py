"""Routes that are described to FastAPI and served without it.

FastAPI resolves a handler's parameters anew for each request, which makes a look-up cost half as much again
(bench/README.md). A route of this class is documented by its endpoint's signature as any other, and served by a
function of the request alone, which must check what the signature promises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_D = TypeVar("_D", bound=Callable[..., Any])
Serve = Callable[[Request], Awaitable[Response]]
_SERVED: dict[Callable[..., Any], Serve] = {}


def served_by(serve: Serve) -> Callable[[_D], _D]:
    """Return a decorator of the function that describes a route which `serve` answers."""

    def described(endpoint: _D) -> _D:
        _SERVED[endpoint] = serve
        return endpoint

    return described


class HandMade(APIRoute):
    """The route of a function decorated with `served_by`."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; what is raised, the application's handlers answer."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        answer = await _SERVED[self.endpoint](Request(scope, receive))
        await answer(scope, receive, send)
