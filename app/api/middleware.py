"""Middleware around every request: its id, an access line, metrics, and a problem document after an internal error."""

from __future__ import annotations

import logging
import random
import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem, problem_answer
from app.metrics import Meters
from app.ports.clock import Clock

logger = logging.getLogger(__name__)
access = logging.getLogger("app.api.access")
REQUEST_ID_HEADER: Final = "X-Request-Id"
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# A key that somebody pasted into a path.
_TOKEN: Final = re.compile(r"slk_[A-Za-z0-9_-]*")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNMATCHED: Final = "unmatched"
_PATH_LETTERS: Final = 200
# Status that nginx logs if the client disconnects before the answer begins.
_NO_ANSWER: Final = 499


class Observed:
    """Outermost middleware: it observes every request once, however the request ends."""

    def __init__(self, app: ASGIApp, clock: Clock, meters: Meters, lines: str) -> None:
        self._app = app
        self._clock = clock
        self._meters = meters
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request. Raises only CancelledError."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope, self._clock.monotonic())
        sending = seen.sending(send)
        try:
            await self._app(scope, receive, sending)
        except BaseException as error:
            if not isinstance(error, Exception):
                raise
            logger.exception("request %s failed", seen.request_id)
            if seen.status == _NO_ANSWER:
                answer = problem_answer(
                    Problem(500, "internal_error", "internal error; the log has it under the request id"),
                    seen.request_id,
                )
                await answer(scope, receive, sending)
        finally:
            self._note(seen, self._clock.monotonic() - seen.started)

    def _note(self, seen: _Seen, seconds: float) -> None:
        route = seen.route()
        method = seen.method if seen.method in _METHODS else "other"
        self._meters.count(
            "sightline_api_requests_total", route=route or _UNMATCHED, method=method, status=str(seen.status)
        )
        self._meters.observe("sightline_api_request_seconds", seconds, route=route or _UNMATCHED)
        if self._lines == "all" or (self._lines == "failed" and seen.status >= 400):
            where = route or seen.path()
            key_id = str(seen.scope["state"].get("key_id", "-"))
            ms = round(seconds * 1000, 2)
            access.info(
                "%s %s %d in %.2f ms, %d bytes, key %s, request %s",
                *(method, where, seen.status, ms, seen.sent_bytes, key_id, seen.request_id),
                extra={
                    "fields": {
                        "method": method,
                        "route": where,
                        "status": seen.status,
                        "ms": ms,
                        "bytes": seen.sent_bytes,
                        "key_id": key_id,
                        "request_id": seen.request_id,
                    }
                },
            )


class _Seen:
    """Observations of one request while it is served."""

    __slots__ = ("method", "request_id", "scope", "sent_bytes", "started", "status")

    def __init__(self, scope: Scope, started: float) -> None:
        self.scope = scope
        self.started = started
        self.method = str(scope["method"])
        self.request_id = _request_id(scope)
        self.status = _NO_ANSWER
        self.sent_bytes = 0
        scope.setdefault("state", {})["request_id"] = self.request_id

    def sending(self, send: Send) -> Send:
        request_id = (REQUEST_ID_HEADER.lower().encode(), self.request_id.encode())

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                message["headers"] = [*message.get("headers", ()), request_id]
            elif message["type"] == "http.response.body":
                self.sent_bytes += len(message.get("body", b""))
            await send(message)

        return sending

    def route(self) -> str:
        """Return the template of the request's route; empty if no route matched."""
        return str(getattr(self.scope.get("route"), "path", ""))

    def path(self) -> str:
        """Return the path as received, percent-encoded, so that it cannot break a log line; never the query."""
        raw: bytes = self.scope.get("raw_path") or b""
        return _TOKEN.sub("slk_***", raw.decode("latin-1")[:_PATH_LETTERS])


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return str(value.decode())
    # An id need not be hard to guess, and asking the kernel for randomness costs more than a look-up.
    return f"{random.getrandbits(64):016x}"
