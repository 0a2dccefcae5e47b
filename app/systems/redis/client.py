"""Connections to Redis (or Valkey) for all adapters: bounded waits, no retries, one kind of error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.errors import RedisUnavailable
from app.settings import RedisSettings
from app.systems.unreachable import unreachable

# A server that does not answer within this time counts as unavailable.
_SOCKET_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 3.0


def connect(
    settings: RedisSettings, *, socket_seconds: float | None = _SOCKET_SECONDS, connections: int | None = None
) -> Any:
    """Return a client, which connects at its first command. `socket_seconds` None: no limit for an answer.

    `connections` limits the number of connections; commands wait for one as long as for an answer.
    """
    options = {
        "socket_timeout": socket_seconds,
        "socket_connect_timeout": min(_CONNECT_SECONDS, socket_seconds or _CONNECT_SECONDS),
        # Callers decide how to wait; a silent retry here would exceed the time limit.
        "retry": Retry(NoBackoff(), 0),
    }
    if connections is None:
        return redis.asyncio.from_url(settings.url.reveal(), **options)
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.url.reveal(), max_connections=connections, timeout=socket_seconds, **options
    )
    return redis.asyncio.Redis.from_pool(pool)


@contextmanager
def redis_errors(client: Any) -> Iterator[None]:
    """Translate errors of `client` to RedisUnavailable, with a message without the password in the URL.

    A cancellation in the body is never lost. redis-py uses `asyncio.wait_for`, which before Python 3.12 drops a
    cancellation that arrives as it ends (python/cpython#86296); the task would continue.
    """
    task = asyncio.current_task()
    cancelled = task.cancelling() if task is not None else 0
    try:
        yield
    except (RedisError, OSError) as error:
        asked = client.connection_pool.connection_kwargs
        where = asked.get("path") or f"{asked.get('host')}:{asked.get('port')}"
        raise RedisUnavailable(unreachable("Redis", where, "SIGHTLINE_REDIS_URL", error)) from error
    finally:
        if task is not None and task.cancelling() > cancelled:
            raise asyncio.CancelledError
