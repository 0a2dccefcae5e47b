"""Limits on size and duration of request bodies. Content-Length is checked before a byte is read."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, NoReturn

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem, problem_answer

_PLAIN_BYTES: Final = 1024 * 1024
# Boundaries and part headers around the picture of a form.
FORM_BYTES: Final = 64 * 1024
# 1 MiB over 1 Mbit/s takes about this time; most bodies take a thousandth of it.
PLAIN_SECONDS: Final = 10.0
# Most clients read the answer only after they have sent their body, and closing a connection with unread data discards
# the answer. For this time the rest of the body is read and discarded.
_LINGER_SECONDS: Final = 2.0


class _Refused(HTTPException):
    """Signal to end the reader of a body; FastAPI would turn any other exception into a 400."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.detail)
        self.problem = problem


class BodyLimits:
    """ASGI middleware: POST /v1/score accepts a picture of `picture_bytes`, other routes 1 MiB within some seconds.

    A larger body gets 413 `body_too_large`, a slower one 408 `body_too_slow` (POST /v1/score has its own limit). Both
    are answered at once and end the connection.
    """

    def __init__(self, app: ASGIApp, picture_bytes: int, plain_seconds: float = PLAIN_SECONDS) -> None:
        self._app = app
        self._score_bytes = picture_bytes + FORM_BYTES
        self._plain_seconds = plain_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scoring = scope["path"] == "/v1/score"
        most_bytes = self._score_bytes if scoring else _PLAIN_BYTES
        if _announced_bytes(scope) > most_bytes:
            await _refuse(scope, receive, send, _too_large(most_bytes), more=True)
            return
        body = _Body(receive, send, most_bytes, None if scoring else self._plain_seconds)
        with suppress(_Refused):
            await self._app(scope, body.receive, body.send)
        if body.refusal is not None and not body.started:
            await _refuse(scope, receive, send, body.refusal, more=body.more)


class _Body:
    """Stream of the body. After a refusal, the application's own answer is dropped."""

    def __init__(self, receive: Receive, send: Send, most_bytes: int, seconds: float | None) -> None:
        self._receive = receive
        self._send = send
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._left = most_bytes
        self._until: float | None = None
        self.more = True
        self.refusal: Problem | None = None
        self.started = False

    async def receive(self) -> Message:
        if self.refusal is not None:
            raise _Refused(self.refusal)
        message = await self._next()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self.more = message.get("more_body", False)
            if self._left < 0:
                self._end(_too_large(self._most_bytes))
        return message

    async def _next(self) -> Message:
        if self._seconds is None or not self.more:
            return await self._receive()
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._until):
                return await self._receive()
        except TimeoutError:
            self._end(too_slow(self._seconds))

    def _end(self, problem: Problem) -> NoReturn:
        self.refusal = problem
        raise _Refused(problem)

    async def send(self, message: Message) -> None:
        if self.refusal is not None and not self.started:
            return
        self.started = True
        await self._send(message)


def too_slow(seconds: float) -> Problem:
    """Return the answer to a body that takes longer than `seconds`."""
    return Problem(
        408, "body_too_slow", f"the body did not arrive within {seconds:g} s", headers={"Connection": "close"}
    )


def _too_large(most_bytes: int) -> Problem:
    return Problem(
        413,
        "body_too_large",
        f"the body is larger than {most_bytes} bytes",
        headers={"Connection": "close"},
        most_bytes=most_bytes,
    )


async def _refuse(scope: Scope, receive: Receive, send: Send, problem: Problem, *, more: bool) -> None:
    answer = problem_answer(problem, str(scope["state"].get("request_id", "")))
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": bytes(answer.body), "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while more:
                more = (await receive()).get("more_body", False)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _announced_bytes(scope: Scope) -> int:
    """Return Content-Length, 0 without it. The server has already refused values that are not numbers."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
