"""Ending a Kafka client, whatever state its broker is in."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_CLOSE_SECONDS: Final = 10.0
_NUDGE_SECONDS: Final = 0.2


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
        for _ in range(round(_CLOSE_SECONDS / _NUDGE_SECONDS)):
            await asyncio.wait((stopping,), timeout=_NUDGE_SECONDS)
            if stopping.done():
                break
            fetcher = getattr(client, "_fetcher", None)
            if fetcher is not None:
                # A cancellation that meets it while it cancels its own fetches is taken for theirs, and it goes on.
                fetcher._fetch_task.cancel()
    except asyncio.CancelledError:
        stopping.cancel()
        raise
    if not stopping.done():
        stopping.cancel()
    elif stopping.cancelled():
        connections = getattr(client, "_client", None)
        if connections is not None:
            await connections.close()
    elif (error := stopping.exception()) is not None and not isinstance(error, KafkaError | OSError | TimeoutError):
        raise error
