"""Batched reads of keys: requests that arrive during a read are sent together in the next one.

A command costs the client more than its keys (bench/README.md), so only one is in progress at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.errors import RedisUnavailable
from app.systems.redis.client import redis_errors

# Values have about half a kilobyte, so one answer has 2 MB.
_MOST_KEYS: Final = 3000


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """Keys that one caller reads."""

    keys: Sequence[str]
    answer: asyncio.Future[list[bytes | None]]


class ReadsTogether:
    """Batching reader of one client. Belongs to one event loop."""

    def __init__(self, client: Any) -> None:
        self._redis = client
        self._asked: deque[_Question] = deque()
        self._reading: asyncio.Task[None] | None = None

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of `keys`, None for a missing key. Raises RedisUnavailable."""
        question = _Question(keys, asyncio.get_running_loop().create_future())
        self._asked.append(question)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_all())
        return await question.answer

    async def _read_all(self) -> None:
        try:
            while self._asked:
                await self._read_some()
        finally:
            # Cleared here and not when the task is done, which is later: a request in between would wait.
            self._reading = None

    async def _read_some(self) -> None:
        together: list[_Question] = []
        count = 0
        while self._asked and (not together or count + len(self._asked[0].keys) <= _MOST_KEYS):
            together.append(self._asked.popleft())
            count += len(together[-1].keys)
        try:
            with redis_errors(self._redis):
                values = await self._redis.mget([key for question in together for key in question.keys])
        except RedisUnavailable as error:
            for question in together:
                if not question.answer.done():
                    question.answer.set_exception(RedisUnavailable(str(error)))
            return
        except asyncio.CancelledError:
            for question in together:
                question.answer.cancel()
            raise
        at = 0
        for question in together:
            if not question.answer.done():
                question.answer.set_result(values[at : at + len(question.keys)])
            at += len(question.keys)

    def close(self) -> None:
        """Cancel the read in progress and its callers."""
        if self._reading is not None:
            self._reading.cancel()
