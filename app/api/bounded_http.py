"""HTTP/1.1 as uvicorn speaks it, with bounds: without them a head may be endless, and a request never end.

What is refused here no route has seen; it is told as a problem document all the same.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.problems import Problem, problem_answer

logger = logging.getLogger(__name__)
# Twice what nginx takes by default. A key of 1,024 bytes is 3 KiB in a path, a token 60 bytes.
MAX_HEAD_BYTES: Final = 32 * 1024
# From the connection, or the first byte of a request, to the end of its head.
HEAD_SECONDS: Final = 15.0
# From there to the end of its body: longer than any route waits for one (app/api/bodies.py, score_bodies.py), so that
# the route answers first. Also ends a body that goes on after its request was answered.
BODY_SECONDS: Final = 60.0


class BoundedHttp(HttpToolsProtocol):
    """One connection. A head over 32 KiB is 431 `head_too_large`, what is no HTTP 400 `bad_http`; slowness ends it."""

    head_seconds = HEAD_SECONDS
    body_seconds = BODY_SECONDS

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._in_head = True
        self._head_bytes = 0
        self._refused = False
        self._limit: asyncio.TimerHandle | None = None
        # What the limit has to be from now on (None: none), and whether it is another one than before.
        self._seconds: float | None = None
        self._moved = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._bound(self.head_seconds)
        self._set_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._bound(None)
        self._set_limit()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; of a head that is not complete, so many bytes."""
        if self._refused:
            return
        super().data_received(data)
        if self._in_head:
            # Also counts what httptools still gathers of a line, which no callback tells.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()
        # Not before: most requests come in one piece, and need none.
        if self._moved:
            self._set_limit()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head_bytes = True, 0
        self._bound(self.head_seconds)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_head = False
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse_head()
            return
        self._bound(self.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of its body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is there; what it waits for, it may."""
        self._bound(None)
        if not self._refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        if not self._refused:
            self._refuse(Problem(400, "bad_http", "this is no HTTP/1.1 request"))

    def _refuse_head(self) -> None:
        if not self._refused:
            self._refuse(Problem(431, "head_too_large", f"path and headers have {MAX_HEAD_BYTES} bytes at most"))

    def _refuse(self, problem: Problem) -> None:
        self._refused = True
        if self.transport.is_closing():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and (self._in_head or self.pipeline or self.cycle.response_started):
            # The answer to an earlier request, or to this one, is under way: a second one would be taken for its rest.
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
            logger.info("a client took more than %g s to send a request and is cut off", seconds)
            self.transport.close()
