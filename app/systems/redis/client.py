"""A connection to Redis (or Valkey) as every adapter makes it: bounded waits, no second try, one kind of error."""

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

# A server that does not answer for so long counts as away.
_SOCKET_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 3.0


def connect(
    settings: RedisSettings, *, socket_seconds: float | None = _SOCKET_SECONDS, connections: int | None = None
) -> Any:
    """Return a client; it connects at its first question. `socket_seconds` None: an answer may take for ever.

    With `connections` it has no more than so many, and questions wait for one of them as long as for an answer.
    """
    options = {
        "socket_timeout": socket_seconds,
        "socket_connect_timeout": min(_CONNECT_SECONDS, socket_seconds or _CONNECT_SECONDS),
        # Callers decide how to wait; a silent second try here would only stretch the bound.
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
    """Make what goes wrong with `client` RedisUnavailable, one sentence without the password that its URL may hold.

    A cancellation that comes meanwhile is never lost: redis-py sends by `asyncio.wait_for`, which before Python 3.12
    drops one that comes as it ends (python/cpython#86296), and the task would run on.
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
