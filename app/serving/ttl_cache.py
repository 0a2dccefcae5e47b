"""TTL cache for expensive answers: computed once for all callers and kept for some seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, cast

from app.errors import BrokerUnavailable, Retryable, StartupRefused
from app.ports.clock import Clock

T = TypeVar("T")


class Remembered(Generic[T]):
    """Answer of `ask`, at most `seconds` old. One caller at a time asks, for at most `patience_seconds`.

    A failure is cached as long as an answer, so that during an outage callers fail at once instead of each waiting for
    the timeout. `known` is the last answer, whatever its age.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[T]], clock: Clock, *, seconds: float, patience_seconds: float
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._seconds = seconds
        self._patience = patience_seconds
        self._asking = asyncio.Lock()
        self._asked_at: float | None = None
        self._failure: Retryable | None = None
        self.known: T | None = None

    async def get(self) -> T:
        """Return the answer. Raises the Retryable that `ask` raises, or BrokerUnavailable after the timeout."""
        async with self._asking:
            if self._asked_at is None or self._clock.monotonic() - self._asked_at >= self._seconds:
                await self._ask_again()
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            return cast("T", self.known)

    async def _ask_again(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                self.known, self._failure = await self._ask(), None
        except Retryable as error:
            self._failure = error
        except StartupRefused as error:
            self._failure = BrokerUnavailable(str(error))
        except TimeoutError:
            self._failure = BrokerUnavailable(f"no answer within {self._patience:g} s")
        self._asked_at = self._clock.monotonic()
