"""Limits on size and duration of HTTP requests, which uvicorn lacks.

Requests that are refused here reach no route, but get a problem document all the same.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.problems import Problem, problem_answer

logger = logging.getLogger(__name__)
# Twice the default of nginx. A key of 1,024 bytes is 3 KiB in a path, a token 60 bytes.
MAX_HEAD_BYTES: Final = 32 * 1024
# From the connection, or the first byte of a request, to the end of its head.
HEAD_SECONDS: Final = 15.0
# From there to the end of its body: longer than any route waits for a body (app/api/bodies.py, score_bodies.py), so
# that the route answers first. Also ends a body that continues after its request was answered.
BODY_SECONDS: Final = 60.0


class BoundedHttp(HttpToolsProtocol):
    """One connection. A head over 32 KiB gets 431 `head_too_large`, invalid HTTP 400 `bad_http`."""

    head_seconds = HEAD_SECONDS
    body_seconds = BODY_SECONDS

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._in_head = True
        self._head_bytes = 0
        self._refused = False
        self._limit: asyncio.TimerHandle | None = None
        # The next time limit (None: no limit), and whether it differs from the present one.
        self._seconds: float | None = None
        self._moved = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the time limit of the first request."""
        super().connection_made(transport)
        self._bound(self.head_seconds)
        self._set_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the time limit."""
        self._bound(None)
        self._set_limit()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. An incomplete head may have at most MAX_HEAD_BYTES."""
        if self._refused:
            return
        super().data_received(data)
        if self._in_head:
            # Includes the part of a line that httptools still collects, which no callback reports.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()
        # Not earlier: most requests arrive in one piece and need no timer.
        if self._moved:
            self._set_limit()

    def on_message_begin(self) -> None:
        """Handle the start of a request."""
        self._in_head, self._head_bytes = True, 0
        self._bound(self.head_seconds)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Handle the end of a request's head."""
        self._in_head = False
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse_head()
            return
        self._bound(self.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Handle a part of a request's body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Handle the end of a request, which ends its time limit."""
        self._bound(None)
        if not self._refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse invalid HTTP."""
        if not self._refused:
            self._refuse(Problem(400, "bad_http", "the request is not valid HTTP/1.1"))

    def _refuse_head(self) -> None:
        if not self._refused:
            self._refuse(Problem(431, "head_too_large", f"path and headers may have at most {MAX_HEAD_BYTES} bytes"))

    def _refuse(self, problem: Problem) -> None:
        self._refused = True
        if self.transport.is_closing():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and (self._in_head or self.pipeline or self.cycle.response_started):
            # An answer is already being sent; the client would take a second one for the rest of it.
            self.transport.close()
            return
        answer = problem_answer(problem, "")
        head = [f"HTTP/1.1 {problem.status} {problem.title}\r\n".encode()]
        head += [name + b": " + value + b"\r\n" for name, value in answer.raw_headers]
        self.transport.write(b"".join([*head, b"connection: close\r\n\r\n", bytes(answer.body)]))
        self.transport.close()

    def _bound(self, seconds: float | None) -> None:
        self._seconds, self._moved = seconds, True

    def _set_limit(self) -> None:
        self._moved = False
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        if self._seconds is not None:
            self._limit = self.loop.call_later(self._seconds, self._too_slow, self._seconds)

    def _too_slow(self, seconds: float) -> None:
        self._limit = None
        if not self.transport.is_closing():
            logger.info("disconnected a client that took more than %g s to send a request", seconds)
            self.transport.close()
