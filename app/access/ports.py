"""Ports of access: console sessions and the use of API keys, as several API processes share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from app.domain.sessions import ConsoleSession


class Sessions(Protocol):
    """Who is signed in to the console. Every wait is bounded; all of it raises IndexUnavailable."""

    async def put(self, digest: str, session: ConsoleSession) -> None:
        """Keep `session` under the digest of its id until it expires."""
        ...

    async def find(self, digest: str) -> ConsoleSession | None:
        """Return the session, None where it ended, expired or never was."""
        ...

    async def end(self, digest: str) -> None:
        """Forget the session; one that is not there is no error."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class SharedUse(Protocol):
    """Requests of each API key, counted over all API processes."""

    async def add(self, used: Mapping[str, int]) -> dict[str, int]:
        """Add to the counters of keys (by id; also 0) and return what each holds then.

        A counter that nobody adds to for a minute begins anew. Raises IndexUnavailable; some may then have been added.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
