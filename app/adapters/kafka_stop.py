"""Ending a Kafka client, whatever state its broker is in."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_CLOSE_SECONDS: Final = 10.0


async def stop_client(client: Any) -> None:
    """Stop a producer or consumer (or None); one whose broker is away is abandoned after 10 s.

    Raises nothing of Kafka's, and CancelledError only where the caller himself is cancelled: a consumer that waits to
    fetch again lets the cancellation of its own fetch out of `stop`, which would end whoever awaits it, and leaves its
    connections open.
    """
    from aiokafka.errors import KafkaError

    if client is None:
        return
    stopping = asyncio.ensure_future(client.stop())
    try:
        done, _ = await asyncio.wait((stopping,), timeout=_CLOSE_SECONDS)
    except asyncio.CancelledError:
        stopping.cancel()
        raise
    if not done:
        stopping.cancel()
    elif stopping.cancelled():
        connections = getattr(client, "_client", None)
        if connections is not None:
            await connections.close()
    elif (error := stopping.exception()) is not None and not isinstance(error, KafkaError | OSError | TimeoutError):
        raise error
