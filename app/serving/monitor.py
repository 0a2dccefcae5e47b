"""Figures of the last minutes from the pipeline's topics, which are read only while somebody asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from app.errors import Poison
from app.ports.clock import Clock
from app.ports.records import SourceRecord
from app.ports.topics import AtTime, Since, TopicLog
from app.serving.sliding_window import WINDOW_SECONDS, Window
from app.serving.topic_watch import Following
from app.topics import FLAGGED, PREDICTIONS

logger = logging.getLogger(__name__)
WATCHED: Final = (PREDICTIONS, FLAGGED)
IDLE_SECONDS: Final = 120.0
# The first request reads the last minutes; at 500 records a second this takes some seconds.
_FIRST_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 1.0
# Decoding a record takes about 40 microseconds, so other requests wait for at most 4 ms.
_CHUNK: Final = 100

# Name and fields of a record, see Codec.fields; raises Poison.
Fields = Callable[[bytes | None], tuple[str, Mapping[str, Any]]]


class Monitor:
    """Figures of the last five minutes, for all workers together. Started by `asked`, ended when nobody asks."""

    def __init__(self, log: TopicLog, fields: Fields, clock: Clock) -> None:
        self._log = log
        self._fields = fields
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._following: Following | None = None
        self._settled = asyncio.Event()
        self._asked_at = 0.0
        self.window = Window()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Accept requests while the context is open. An unexpected error in the follower ends its body."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None
                if self._task is not None:
                    self._task.cancel()

    def follows(self) -> bool:
        """True while the topics are read."""
        return self._task is not None and not self._task.done()

    async def asked(self) -> str:
        """Fill the window within some seconds. Return what is missing, "" if it is complete."""
        self._asked_at = self._clock.monotonic()
        if not self.follows() and self._tasks is not None:
            self.window = Window()
            self._settled = asyncio.Event()
            self._following = Following(self._log, WATCHED, self._clock, self._since())
            self._task = self._tasks.create_task(self._follow(self._following))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_SECONDS):
                await self._settled.wait()
        if self._following is None or self._following.away:
            away = "the service ends" if self._following is None else self._following.away
            return f"what is published cannot be read: {away}"
        if not self._following.caught_up:
            return "the last five minutes are still being read; ask again for all of them"
        return ""

    def _since(self) -> Since:
        return AtTime(self._clock.now_ms() - WINDOW_SECONDS * 1000)

    async def _follow(self, following: Following) -> None:
        async with aclosing(following.batches(_POLL_SECONDS)) as batches:
            async for batch in batches:
                for first in range(0, len(batch), _CHUNK):
                    self._count(batch[first : first + _CHUNK])
                    await asyncio.sleep(0)
                if following.caught_up or following.away:
                    self._settled.set()
                if self._clock.monotonic() - self._asked_at > IDLE_SECONDS:
                    return

    def _count(self, records: list[SourceRecord]) -> None:
        now_ms = self._clock.now_ms()
        for record in records:
            try:
                name, fields = self._fields(record.value)
            except Poison:
                continue
            if name == "ImagePrediction":
                self.window.prediction(fields, record.timestamp_ms, now_ms)
            elif name == "FlaggedImage":
                self.window.flag(fields, record.timestamp_ms, now_ms)
