"""`bench transactions`: a worker's memory over very many small transactions on the topic that it reads.

Every transaction leaves a marker in the topic, an offset that is no record. A consumer that keeps account of holes
grows with them; ours must not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents import IDENTIFY
from app.bench.rig import Report, Rig, usage
from app.bench.spread import rounded, slope
from app.errors import StartupRefused
from app.systems.kafka.groups import KafkaGroups
from app.systems.kafka.producer import KafkaTransactionalProducer
from app.topics import UPLOADS

_WRITERS: Final = 24
# Valid, and nothing to do: what is measured is the way of a record, not its work.
_EVENT: Final = b'{"Records":[]}'
_SAMPLE_SECONDS: Final = 2.0
_SILENCE_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class TransactionsOptions:
    """How many transactions, and when to stop writing more."""

    count: int
    limit_seconds: float


async def measure_transactions(
    options: TransactionsOptions, var_dir: Path, environment: Mapping[str, str], report: Report
) -> dict[str, Any]:
    """Return the JSON object that `bench transactions` prints."""
    async with Rig(var_dir, "", environment, report) as rig:
        worker = await rig.start_worker("identify")
        if worker.pid is None:
            raise StartupRefused(f"identify ended; see {worker.how.log_file}")
        began = time.monotonic()
        written = _Count(options.count, began + options.limit_seconds)
        points: list[tuple[float, float]] = []
        writers = [asyncio.create_task(_write(rig, number, written)) for number in range(_WRITERS)]
        read, moved_at, told_at = 0, began, began
        try:
            while True:
                writing = any(not task.done() for task in writers)
                for task in writers:
                    if task.done():
                        task.result()
                rig.children.check()
                committed = await KafkaGroups(rig.settings.kafka).committed((IDENTIFY.group,))
                position = sum(committed[IDENTIFY.group].values())
                # A record and its marker are two offsets; nothing past the last record is committed.
                now, seen = time.monotonic(), position // 2
                if seen != read:
                    read, moved_at = seen, now
                points.append((float(read), float(usage(worker.pid).rss_bytes)))
                if now - told_at > 15:
                    told_at = now
                    report(f"{written.done} transactions written, {read} read, {points[-1][1] / 1e6:.0f} MB resident")
                if not writing and read >= written.done - _WRITERS:
                    break
                if now - moved_at > _SILENCE_SECONDS:
                    raise StartupRefused(f"identify stands still at {read} of {written.done} transactions")
                await asyncio.sleep(_SAMPLE_SECONDS)
        finally:
            for task in writers:
                task.cancel()
            await asyncio.gather(*writers, return_exceptions=True)
        seconds = time.monotonic() - began
    half = points[len(points) // 2 :]
    return {
        "transactions": written.done,
        "transactions_per_second": rounded(written.done / seconds),
        "rss_bytes_at_start": round(points[0][1]),
        "rss_bytes_at_half": round(half[0][1]),
        "rss_bytes_at_end": round(points[-1][1]),
        "rss_growth_bytes_per_1000_transactions": round(slope(half) * 1000),
        "peak_rss_bytes": round(max(value for _, value in points)),
        "peak_rss_bytes_spread": {"min": min(value for _, value in points), "max": max(value for _, value in points)},
    }


@dataclass(slots=True)
class _Count:
    """What the writers share."""

    count: int
    deadline: float
    taken: int = 0
    done: int = 0

    def take(self) -> bool:
        """Take the next transaction, if there is one left and time for it."""
        if self.taken >= self.count or time.monotonic() > self.deadline:
            return False
        self.taken += 1
        return True


async def _write(rig: Rig, number: int, written: _Count) -> None:
    key = str(number).encode()
    async with KafkaTransactionalProducer(rig.settings.kafka, f"bench-{number}") as producer:
        while written.take():
            await producer.publish([(UPLOADS, key, _EVENT)])
            written.done += 1
