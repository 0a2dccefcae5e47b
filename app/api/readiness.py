"""Whether this process can answer: named checks, side by side, each within a short time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.errors import Retryable

# A load balancer that asks every few seconds must hear a "no" well before it asks again.
CHECK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing without which requests fail. `ask` returns words; it raises Retryable where the thing is away."""

    name: str
    ask: Callable[[], Awaitable[str]]


async def readiness(checks: Sequence[Check]) -> tuple[bool, list[dict[str, Any]]]:
    """Return whether all is well, and each check's name, result and words. Takes 2 s at most."""
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
