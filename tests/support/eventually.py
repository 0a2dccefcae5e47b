"""Waiting for a condition with a deadline: the only way in which tests wait."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    condition: Callable[[], Awaitable[T | None]],
    within_seconds: float = ...,
    *,
    every_seconds: float = ...,
    message: str = ...,
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T | None], within_seconds: float = ..., *, every_seconds: float = ..., message: str = ...
) -> T: ...


async def eventually(
    condition: Callable[[], Any], within_seconds: float = 10.0, *, every_seconds: float = 0.05, message: str = ""
) -> Any:
    """Return the first truthy value of `condition`, plain or async.

    An AssertionError inside `condition` counts as not yet. Past the deadline the last one is raised again, else an
    AssertionError with `message` and the last value.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_seconds
    while True:
        failure: AssertionError | None = None
        value: Any = None
        try:
            found = condition()
            value = await found if inspect.isawaitable(found) else found
        except AssertionError as error:
            failure = error
        if failure is None and value:
            return value
        if loop.time() >= deadline:
            if failure is not None:
                raise failure
            raise AssertionError(f"{message or 'condition'} not met within {within_seconds} s; last value: {value!r}")
        await asyncio.sleep(every_seconds)
