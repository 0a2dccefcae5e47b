"""Notifications of index changes: one subscription per image with waiting callers, on one connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from app.errors import RedisUnavailable
from app.settings import RedisSettings
from app.systems.redis.client import connect, redis_errors

logger = logging.getLogger(__name__)
_PAUSE_SECONDS: Final = 0.5
# Time limit of one poll; short, so that a dropped subscription is noticed.
_LOOK_SECONDS: Final = 5.0


def changes_channel(prefix: str, bucket: str, key: str) -> str:
    """Return the channel on which the index announces changes of an image."""
    return f"{prefix}changed:{bucket}/{key}"


class RedisWatch:
    """`ImageWatch` on Redis publish/subscribe. Belongs to one event loop; `close` it."""

    def __init__(self, settings: RedisSettings) -> None:
        self._prefix = settings.prefix
        self._redis: Any = connect(settings, socket_seconds=None)
        self._pubsub: Any = None
        self._events: dict[str, set[asyncio.Event]] = {}
        self._reading: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watching(self, bucket: str, key: str) -> AsyncIterator[asyncio.Event]:
        """See `ImageWatch`."""
        channel = changes_channel(self._prefix, bucket, key)
        event = asyncio.Event()
        first = channel not in self._events
        self._events.setdefault(channel, set()).add(event)
        try:
            if first:
                await self._subscribe(channel)
            yield event
        finally:
            waiting = self._events[channel]
            waiting.discard(event)
            if not waiting:
                del self._events[channel]
                if self._pubsub is not None:
                    with suppress(RedisUnavailable), redis_errors(self._redis):
                        await self._pubsub.unsubscribe(channel)

    async def _subscribe(self, channel: str) -> None:
        if self._reading is None:
            self._pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
            self._reading = asyncio.create_task(self._read())
            return  # subscribes first; the caller reads the index after that
        # During an outage waiting callers poll by themselves, and the reader subscribes again later.
        with suppress(RedisUnavailable), redis_errors(self._redis):
            await self._pubsub.subscribe(channel)

    async def _read(self) -> None:
        while True:
            try:
                with redis_errors(self._redis):
                    if not self._pubsub.subscribed:
                        # An unused channel keeps the connection subscribed while nobody waits.
                        await self._pubsub.subscribe(self._prefix + "changed:", *self._events)
                    message = await self._pubsub.get_message(timeout=_LOOK_SECONDS)
            except RedisUnavailable as error:
                logger.debug("changes of the index are not heard: %s", error)
                await self._pubsub.aclose()
                self._pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if message is not None:
                for event in self._events.get(message["channel"].decode("utf-8", "surrogateescape"), ()):
                    event.set()

    async def close(self) -> None:
        """End the subscription."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        if self._pubsub is not None:
            await self._pubsub.aclose()
        await self._redis.aclose()
