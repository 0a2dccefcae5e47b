"""Headers that restrict what a browser does with an answer. A header that a route sets takes precedence."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The console loads its own scripts, styles and fonts, shows previews from the API or from a dropped file, and connects
# only to this service.
CONSOLE_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# An answer that is not a page needs no sources.
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
        """Serve the request and add the headers to its answer."""
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
