"""Routes that are described to FastAPI and served without it.

FastAPI resolves a handler's parameters for each request, which makes a look-up 50 % more expensive (bench/README.md). A
route of this class is documented by its endpoint's signature, as any other route, and served by a function of the
request alone. That function must check everything that the signature promises.
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
    """Return a decorator for the function that documents a route; `serve` answers its requests."""

    def described(endpoint: _D) -> _D:
        _SERVED[endpoint] = serve
        return endpoint

    return described


class HandMade(APIRoute):
    """Route of a function decorated with `served_by`."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Exceptions are answered by the application's handlers."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        answer = await _SERVED[self.endpoint](Request(scope, receive))
        await answer(scope, receive, send)
