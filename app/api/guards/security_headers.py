"""Headers that tell a browser to trust an answer no more than it must. A route that sets one itself keeps its own."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The console loads its own scripts, styles and fonts, shows previews from the API or from a dropped file, and talks to
# nobody but this service.
CONSOLE_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# What is no page needs nothing.
API_CSP: Final = "default-src 'none'; frame-ancestors 'none'"
_CSP: Final = b"content-security-policy"
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_API: Final = (*_ALWAYS, (_CSP, API_CSP.encode()))
_CONSOLE: Final = (*_ALWAYS, (_CSP, CONSOLE_CSP.encode()))


class SecurityHeaders:
    """ASGI middleware, see above."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request with the headers on its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        added = _CONSOLE if path == "/console" or path.startswith("/console/") else _API

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                message["headers"] = [*headers, *(header for header in added if header[0] not in present)]
            await send(message)

        await self._app(scope, receive, sending)
