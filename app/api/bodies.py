"""No body is larger than its route takes: Content-Length is looked at before a byte is read, chunks are counted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem, problem_answer

_PLAIN_BYTES: Final = 1024 * 1024
# Boundaries and part headers around the picture of a form.
FORM_BYTES: Final = 64 * 1024
# Most clients read an answer only when they have sent their body, and closing a connection on which something unread
# lies takes the answer away from them. For so long what they send is thrown away.
_LINGER_SECONDS: Final = 2.0


class _TooLarge(HTTPException):
    """Ends whatever reads the body; FastAPI would make a 400 of any other exception."""

    def __init__(self) -> None:
        super().__init__(413, "the body is too large")


class BodyLimits:
    """ASGI middleware: POST /v1/score takes a picture of `picture_bytes`, every other route 1 MiB.

    More is 413 `body_too_large`, said at once, and the end of the connection.
    """

    def __init__(self, app: ASGIApp, picture_bytes: int) -> None:
        self._app = app
        self._score_bytes = picture_bytes + FORM_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most_bytes = self._score_bytes if scope["path"] == "/v1/score" else _PLAIN_BYTES
        if _announced_bytes(scope) > most_bytes:
            await _refuse(scope, receive, send, most_bytes, more=True)
            return
        counted = _Counted(receive, send, most_bytes)
        with suppress(_TooLarge):
            await self._app(scope, counted.receive, counted.send)
        if counted.passed and not counted.started:
            await _refuse(scope, receive, send, most_bytes, more=counted.more)


class _Counted:
    """The body as it comes. Once it passed the limit, what the application still answers is dropped."""

    def __init__(self, receive: Receive, send: Send, most_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._left = most_bytes
        self.more = True
        self.passed = False
        self.started = False

    async def receive(self) -> Message:
        if self.passed:
            raise _TooLarge
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self.more = message.get("more_body", False)
            if self._left < 0:
                self.passed = True
                raise _TooLarge
        return message

    async def send(self, message: Message) -> None:
        if self.passed and not self.started:
            return
        self.started = True
        await self._send(message)


async def _refuse(scope: Scope, receive: Receive, send: Send, most_bytes: int, *, more: bool) -> None:
    problem = Problem(
        413,
        "body_too_large",
        f"the body is larger than {most_bytes} bytes",
        headers={"Connection": "close"},
        most_bytes=most_bytes,
    )
    answer = problem_answer(problem, str(scope["state"].get("request_id", "")))
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": bytes(answer.body), "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while more:
                more = (await receive()).get("more_body", False)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _announced_bytes(scope: Scope) -> int:
    """Return Content-Length, 0 without one; the server has refused what is no number."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
