"""A clock that only moves when somebody sleeps on it."""

from __future__ import annotations

import asyncio


class ManualClock:
    """A `Clock`: `sleep` moves it at once and lets others run."""

    def __init__(self, now_ms: int = 1_795_000_100_000) -> None:
        self._now_ms = now_ms
        self._monotonic = 0.0
        self.sleeps: list[float] = []

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self._now_ms += round(seconds * 1000)
        self._monotonic += seconds
        await asyncio.sleep(0)


class LaneStatusLog:
    """A `LaneStatus` that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def waiting(self, reason: str) -> None:
        self.said.append(f"waiting:{reason}")

    def working(self) -> None:
        self.said.append("working")


class HeldClock:
    """A clock that a test moves: `sleep` returns when `advance` has come that far."""

    def __init__(self, now_ms: int = 0) -> None:
        self._start_ms = now_ms
        self._monotonic = 0.0
        self._sleeping: list[tuple[float, asyncio.Event]] = []

    def now_ms(self) -> int:
        return self._start_ms + round(self._monotonic * 1000)

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleeping.append((self._monotonic + seconds, woken))
        await woken.wait()

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
        for due, woken in self._sleeping:
            if due <= self._monotonic:
                woken.set()
