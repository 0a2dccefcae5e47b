"""The query service as a process: everything made from Settings, served until SIGTERM."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from app.adapters.avro import Codec
from app.adapters.clock import SystemClock
from app.adapters.prometheus import PrometheusMeters
from app.adapters.redis import RedisIndex
from app.api.application import build_application
from app.api.live import live_parts
from app.api.parts import ApiParts
from app.errors import StartupRefused
from app.settings import Settings

logger = logging.getLogger(__name__)
# Long polls and streams are told to end; what has not ended by then is cut.
_DRAIN_SECONDS = 5


@asynccontextmanager
async def api_parts(settings: Settings) -> AsyncIterator[ApiParts]:
    """Yield the parts that the settings describe. Raises StartupRefused where the service could not work at all."""
    clock, codec, meters = SystemClock(), Codec(), PrometheusMeters()
    index = RedisIndex(settings.redis, codec)
    try:
        async with live_parts(settings, clock, codec, index, meters) as live:
            yield ApiParts(settings, clock, codec, index, meters, live, list(live.checks))
    finally:
        await index.close()


async def run_api(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartupRefused when the port is taken."""
    listening = listen(settings.api.host, settings.api.port)
    with listening:
        async with api_parts(settings) as parts:
            config = uvicorn.Config(
                build_application(parts),
                http="httptools",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_DRAIN_SECONDS,
            )
            logger.info("query service on http://%s:%d, console at /console", *listening.getsockname()[:2])
            await ApiServer(config, parts).serve(sockets=[listening])


class ApiServer(uvicorn.Server):
    """Ends what would never end by itself, streams, before it waits for requests to end."""

    def __init__(self, config: uvicorn.Config, parts: ApiParts) -> None:
        super().__init__(config)
        self._parts = parts

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        self._parts.live.flags.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; the kernel holds connections that come before the service is ready."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise StartupRefused(f"cannot listen on {host}:{port}: {error.strerror}; set SIGHTLINE_API_PORT") from error
    found.listen(2048)
    return found
