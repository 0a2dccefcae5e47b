"""Figures for operators, read from Kafka alone, so they cover all workers."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from agents import AGENTS, agent_named
from app.dead_letters.dead_letters import FoundLetter, LetterFilter, find_letters
from app.errors import Retryable
from app.ports.clock import Clock
from app.ports.records import RecordCodec
from app.ports.topics import Backlog, ConsumerGroups, TopicLog
from app.serving.monitor import Monitor
from app.serving.sliding_window import WINDOW_SECONDS, Figures
from app.serving.ttl_cache import Remembered
from app.topics import group_of
from schemas.records import DeadLetter

_AGENTS: Final = {agent.group: agent.name for agent in AGENTS}
_OUTCOMES: Final = ("scored", "rejected", "gone")
_LATEST: Final = 10
_LAG_SECONDS: Final = 5.0
_LETTERS_SECONDS: Final = 15.0
# Time limit of each part: a person waits for the page.
_PATIENCE_SECONDS: Final = 8.0
# Time limit for reading dead letters. If there are too many, those read by then are returned.
_READING_SECONDS: Final = 4.0


@dataclass(frozen=True, slots=True)
class OpenLetters:
    """Open dead letters: number and latest time by agent and reason, and the latest ten.

    `whole` is False if there are too many to be read in time; then only those that were read are counted.
    """

    counts: dict[tuple[str, str], tuple[int, int]]
    latest: tuple[DeadLetter, ...]
    whole: bool


def lanes_of(agents: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return all pairs of an agent and a topic that it reads."""
    return tuple((agent, topic) for agent in agents for topic in agent_named(agent).topics)


class Operations:
    """Figures of GET /v1/operations. Each part is cached for some seconds and read by one caller at a time."""

    def __init__(
        self,
        monitor: Monitor,
        clock: Clock,
        *,
        lags: Callable[[], Awaitable[Sequence[Backlog]]],
        letters: Callable[[], Awaitable[OpenLetters]],
    ) -> None:
        self._monitor = monitor
        self._clock = clock
        self._lags = Remembered(lags, clock, seconds=_LAG_SECONDS, patience_seconds=_PATIENCE_SECONDS)
        self._letters = Remembered(letters, clock, seconds=_LETTERS_SECONDS, patience_seconds=_PATIENCE_SECONDS)

    async def figures(self) -> dict[str, Any]:
        """Return the figures as plain values. Does not raise during a broker outage: `notes` say what is missing."""
        async with asyncio.TaskGroup() as asking:
            missing = asking.create_task(self._monitor.asked())
            lags = asking.create_task(_missing(self._lags, "the lag"))
            letters = asking.create_task(_missing(self._letters, "the dead letters"))
        open_letters = self._letters.known
        notes = [note for note in (missing.result(), lags.result(), letters.result()) if note]
        if open_letters is not None and not open_letters.whole:
            notes.append(
                "there are more dead letters than could be read in time; `./sightline dead-letters ls` has all"
            )
        now_ms = self._clock.now_ms()
        return {
            **_window(self._monitor.window.total(now_ms)),
            "series": [_cell(at_ms, figures) for at_ms, figures in self._monitor.window.cells(now_ms)],
            "lanes": [_lane(backlog, now_ms) for backlog in self._lags.known or ()],
            "dead_letters": _dead_letters(open_letters),
            "notes": notes,
        }


def operations_on(
    log: TopicLog,
    groups: ConsumerGroups,
    codec: RecordCodec,
    monitor: Monitor,
    clock: Clock,
    agents: Sequence[str],
) -> Operations:
    """Return the operations of the pipeline of `agents`."""
    pairs = tuple((group_of(agent), topic) for agent, topic in lanes_of(agents))
    return Operations(
        monitor,
        clock,
        lags=partial(groups.backlogs, pairs),
        letters=partial(open_letters, log, codec, clock),
    )


async def open_letters(log: TopicLog, codec: RecordCodec, clock: Clock) -> OpenLetters:
    """Return the open dead letters, within some seconds. Raises BrokerUnavailable and StartupRefused."""
    until = clock.monotonic() + _READING_SECONDS
    counts: Counter[tuple[str, str]] = Counter()
    latest_ms: dict[tuple[str, str], int] = {}
    newest: list[tuple[int, str, FoundLetter]] = []
    whole = True
    async with aclosing(find_letters(log, codec, LetterFilter())) as letters:
        async for open_letter in letters:
            letter = open_letter.letter
            name = letter.agent, letter.reason
            counts[name] += 1
            latest_ms[name] = max(latest_ms.get(name, 0), letter.dead_at_ms)
            heapq.heappush(newest, (letter.dead_at_ms, letter.letter_id, open_letter))
            if len(newest) > _LATEST:
                heapq.heappop(newest)
            if clock.monotonic() > until:
                whole = False
                break
    return OpenLetters(
        {name: (count, latest_ms[name]) for name, count in counts.most_common()},
        tuple(open_letter.letter for _, _, open_letter in sorted(newest, reverse=True)),
        whole,
    )


async def _missing(remembered: Remembered[Any], what: str) -> str:
    """Refresh `remembered.known` if possible. Return what failed, "" for nothing."""
    try:
        await remembered.get()
    except Retryable as error:
        stale = "" if remembered.known is None else "; what is shown is of earlier"
        return f"{what} cannot be read: {error}{stale}"
    return ""


def _window(figures: Figures) -> dict[str, Any]:
    scored = figures.outcomes["scored"]
    outcomes = figures.outcomes.total()
    return {
        "window_seconds": WINDOW_SECONDS,
        "throughput_per_second": round(outcomes / WINDOW_SECONDS, 3),
        "outcomes": {name: figures.outcomes[name] for name in _OUTCOMES},
        "rejections": dict(figures.rejections.most_common()),
        "cache_hit_ratio": None if not scored else round(figures.cached / scored, 4),
        "cached": figures.cached,
        "freshness": {
            "p50_seconds": _seconds(figures.freshness.quantile_ms(0.5)),
            "p95_seconds": _seconds(figures.freshness.quantile_ms(0.95)),
            "max_seconds": _seconds(figures.freshness.longest_ms if figures.freshness.count else None),
            "count": figures.freshness.count,
        },
        "models": [
            {"model": model, "version": version, "images": images}
            for (model, version), images in sorted(figures.models.items())
        ],
        "policies": [
            {"policy": policy, "version": version, "flags": flags}
            for (policy, version), flags in sorted(figures.policies.items())
        ],
    }


def _cell(at_ms: int, figures: Figures) -> dict[str, Any]:
    return {
        "at_ms": at_ms,
        "outcomes": figures.outcomes.total(),
        "cached": figures.cached,
        "p50_seconds": _seconds(figures.freshness.quantile_ms(0.5)),
        "p95_seconds": _seconds(figures.freshness.quantile_ms(0.95)),
    }


def _lane(backlog: Backlog, now_ms: int) -> dict[str, Any]:
    waits_ms = 0 if backlog.oldest_ms is None else max(0, now_ms - backlog.oldest_ms)
    return {
        "agent": _AGENTS[backlog.group],
        "topic": backlog.topic,
        "lag_records": backlog.records,
        "lag_seconds": waits_ms / 1000,
    }


def _dead_letters(letters: OpenLetters | None) -> dict[str, Any]:
    if letters is None:
        return {"open": None, "reasons": [], "latest": []}
    return {
        "open": sum(count for count, _ in letters.counts.values()),
        "reasons": [
            {"agent": agent, "reason": reason, "count": count, "latest_ms": latest_ms}
            for (agent, reason), (count, latest_ms) in letters.counts.items()
        ],
        "latest": [
            {
                "letter_id": letter.letter_id,
                "agent": letter.agent,
                "reason": letter.reason,
                "detail": letter.detail,
                "bucket": letter.bucket,
                "key": letter.object_key,
                "dead_ms": letter.dead_at_ms,
            }
            for letter in letters.latest
        ],
    }


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds / 1000, 3)
