"""Ports of access: console sessions and the use of API keys, as several API processes share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from app.domain.sessions import ConsoleSession


class Sessions(Protocol):
    """Sessions of moderators in the console. Every wait is bounded; all methods raise RedisUnavailable."""

    async def put(self, digest: str, session: ConsoleSession) -> None:
        """Keep `session` under the digest of its id until it expires."""
        ...

    async def find(self, digest: str) -> ConsoleSession | None:
        """Return the session, or None if it ended, expired or never existed."""
        ...

    async def end(self, digest: str) -> None:
        """Delete the session. Idempotent."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class SharedUse(Protocol):
    """Requests of each API key, counted over all API processes."""

    async def add(self, used: Mapping[str, int]) -> dict[str, int]:
        """Add to the counters of keys (key id to number, 0 included) and return their new values.

        A counter restarts at zero after a minute without a call. Raises RedisUnavailable; some numbers may then have
        been added.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
