"""Waiting for servers that have not started yet, for verbs that set something up."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from app.errors import Retryable


async def patiently(action: Callable[[], Awaitable[None]], wait_seconds: float) -> None:
    """Do `action`, again each second while what it needs is away; after `wait_seconds` its error is raised."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return await action()
        except Retryable as away:
            if time.monotonic() >= deadline:
                raise
            print(f"waiting: {away}", file=sys.stderr, flush=True)
            await asyncio.sleep(1.0)
