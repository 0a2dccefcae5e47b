"""Measure the cost of transactional producers. The topics must exist.

python -m tests.support.streaming.producers_cost HOST:PORT [COUNT]
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from app.settings import KafkaSettings
from app.streaming.ports import SourcePartition
from app.streaming.worker import resident_bytes
from app.systems.kafka.transactions import KafkaLaneProducers
from app.topics import BACKFILL, TASKS

_IDLE_SECONDS = 20.0


async def main(bootstrap: str, count: int) -> None:
    """Start one producer, then the rest; print memory and idle CPU time of each further one."""
    producers = KafkaLaneProducers(KafkaSettings(bootstrap=bootstrap), "producers-cost")
    made = [producers.create(SourcePartition((TASKS, BACKFILL)[n % 2], n // 2)) for n in range(count)]
    await made[0].start()
    before, began = resident_bytes(), time.monotonic()
    await asyncio.gather(*(each.start() for each in made[1:]))
    started_seconds = time.monotonic() - began
    after, cpu = resident_bytes(), time.process_time()
    await asyncio.sleep(_IDLE_SECONDS)
    idle_share = (time.process_time() - cpu) / _IDLE_SECONDS
    print(
        json.dumps(
            {
                "producers": count,
                "bytes_each": (after - before) // (count - 1),
                "start_seconds": round(started_seconds, 2),
                "idle_cpu_share": round(idle_share, 5),
            }
        )
    )
    await asyncio.gather(*(each.close() for each in made))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 16))
