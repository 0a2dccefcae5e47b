"""Server-sent events: their format, and a response that releases its place however it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

logger = logging.getLogger(__name__)
EVENT_STREAM: Final = "text/event-stream"
# A client that reads nothing for this time is disconnected; it continues with its last id.
_SEND_SECONDS: Final = 60.0


def server_event(
    *, event_id: str = "", event: str = "", data: bytes = b"", comment: str = "", retry_ms: int | None = None
) -> bytes:
    """Return one block of the stream. `data` and `comment` contain no line breaks.

    A browser does not report a block without data as an event, but stores its id.
    """
    lines = []
    if comment:
        lines.append(b": " + " ".join(comment.split()).encode())
    if retry_ms is not None:
        lines.append(b"retry: %d" % retry_ms)
    if event_id:
        lines.append(b"id: " + event_id.encode())
    if event:
        lines.append(b"event: " + event.encode())
    if data:
        lines.append(b"data: " + data)
    return b"\n".join(lines) + b"\n\n"


class EventStream(StreamingResponse):
    """Response that sends `blocks`. Calls `close` once: at their end, or when the client leaves or reads nothing."""

    media_type = EVENT_STREAM

    def __init__(self, blocks: AsyncIterator[bytes], close: Callable[[], None]) -> None:
        # `no` stops nginx and similar proxies from buffering the stream.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(blocks, headers=headers)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream to its end."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()

    async def stream_response(self, send: Send) -> None:
        """Send all blocks. Return if the client reads nothing, which closes the connection."""

        async def patient(message: Message) -> None:
            async with asyncio.timeout(_SEND_SECONDS):
                await send(message)

        try:
            await super().stream_response(patient)
        except TimeoutError:
            logger.info("disconnected a subscriber that read nothing for %g s", _SEND_SECONDS)
