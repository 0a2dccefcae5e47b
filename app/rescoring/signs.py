"""Signs of life of whoever runs a job, so that `rescore status` can tell a slow runner from a dead one.

A runner is silent for long where it plans, and where its rate lets one task out in minutes: the records of its chunks
alone would make it look dead. So it also says every few seconds that it is there (`control.v1`, kind `job-runner`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from app.domain.jobs import JOB_KIND, RUNNER_KIND, SIGN_EVERY_SECONDS
from app.errors import BrokerUnavailable
from app.pipeline.control_topic import read_control
from app.ports.clock import Clock
from app.ports.records import RecordCodec
from app.ports.topics import TopicLog


@asynccontextmanager
async def signs_of_life(clock: Clock, sign: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Call `sign` at once and every SIGN_EVERY_SECONDS while the block runs; a broker that is away is no error.

    What else `sign` raises ends the signs, and is raised at the end of the block.
    """
    signing = asyncio.create_task(_sign(clock, sign))
    try:
        yield
    finally:
        signing.cancel()
        with suppress(asyncio.CancelledError):
            await signing


async def _sign(clock: Clock, sign: Callable[[], Awaitable[None]]) -> None:
    while True:
        with suppress(BrokerUnavailable):
            await sign()
        await clock.sleep(SIGN_EVERY_SECONDS)


async def last_signs(log: TopicLog, codec: RecordCodec) -> dict[str, int]:
    """Return when whoever runs (or ran) each job was heard of last, by its own clock, in Unix milliseconds."""
    found: dict[str, int] = {}
    for (_, name), record in (await read_control(log, codec, JOB_KIND, RUNNER_KIND)).items():
        found[name] = max(found.get(name, 0), record.written_at_ms)
    return found
