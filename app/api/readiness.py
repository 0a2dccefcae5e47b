"""Readiness of this process: named checks that run concurrently, each with a short time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.errors import Retryable

# A load balancer that asks every few seconds must get a negative answer well before it asks again.
CHECK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """Check of something that requests need. `ask` returns a short text; it raises Retryable during an outage."""

    name: str
    ask: Callable[[], Awaitable[str]]


async def readiness(checks: Sequence[Check]) -> tuple[bool, list[dict[str, Any]]]:
    """Return True if all checks succeed, and each check's name, result and text. Takes at most 2 s."""
    results = await asyncio.gather(*(_result(check) for check in checks))
    return all(result["ok"] for result in results), list(results)


async def _result(check: Check) -> dict[str, Any]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return {"name": check.name, "ok": True, "detail": await check.ask()}
    except Retryable as error:
        return {"name": check.name, "ok": False, "detail": str(error)}
    except TimeoutError:
        return {"name": check.name, "ok": False, "detail": f"no answer within {CHECK_SECONDS:g} s"}
