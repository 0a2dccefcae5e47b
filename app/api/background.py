"""Background tasks that run as long as the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from app.streaming.failstop import fail_stop

_AGAIN_SECONDS: Final = 3.0


@asynccontextmanager
async def beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `works` until the context ends. If one raises, the process ends and is restarted as a whole."""
    tasks = [asyncio.create_task(_kept(work)) for work in works]
    try:
        yield
    finally:
        running = set(tasks)
        while running:
            for task in running:
                task.cancel()
            # Cancelled repeatedly, because a library may lose a cancellation: asyncio.wait_for does before Python 3.12
            # (python/cpython#86296).
            _, running = await asyncio.wait(running, timeout=_AGAIN_SECONDS)


async def _kept(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except BaseException as error:
        # If a library leaks the cancellation of its own task, this task must not end unnoticed.
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            fail_stop(error)
        raise
