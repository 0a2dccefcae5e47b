"""Reading keys for many callers: what is asked while an answer is on its way travels together in the next question.

A question costs the client more than all that is in it (bench/README.md), so one is under way at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.errors import RedisUnavailable
from app.systems.redis.client import redis_errors

# Values of half a kilobyte or so: 2 MB in one answer.
_MOST_KEYS: Final = 3000


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """Keys that one caller wants to know."""

    keys: Sequence[str]
    answer: asyncio.Future[list[bytes | None]]


class ReadsTogether:
    """Reads of one client. Belongs to one event loop."""

    def __init__(self, client: Any) -> None:
        self._redis = client
        self._asked: deque[_Question] = deque()
        self._reading: asyncio.Task[None] | None = None

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of `keys`, None where there is none. Raises RedisUnavailable."""
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
            # Here, not when the task is done: that is a moment later, and a question that came in between would wait.
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
        """End what is under way; its callers are cancelled."""
        if self._reading is not None:
            self._reading.cancel()
