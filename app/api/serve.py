"""The query service as a process: everything made from Settings, served until SIGTERM."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import uvicorn

from app.adapters.avro import Codec
from app.adapters.clock import SystemClock
from app.adapters.prometheus import PrometheusMeters
from app.adapters.redis import RedisIndex
from app.adapters.redis_contents import RedisContents
from app.adapters.s3 import S3ObjectStore
from app.api.application import build_application
from app.api.parts import ApiParts
from app.domain.filters import UploadFilter
from app.errors import StartupRefused
from app.services.admission import BodyRoom
from app.services.previews import Previews
from app.services.references import ReferencedObjects
from app.services.scoring import Scoring
from app.settings import Settings

logger = logging.getLogger(__name__)
# Long polls and streams are told to end; what has not ended by then is cut.
_DRAIN_SECONDS = 5


@asynccontextmanager
async def api_parts(settings: Settings) -> AsyncIterator[ApiParts]:
    """Yield the parts that the settings describe. Raises StartupRefused where the service could not work at all."""
    codec, clock, meters = Codec(), SystemClock(), PrometheusMeters()
    async with AsyncExitStack() as held:
        index = RedisIndex(settings.redis, codec)
        held.push_async_callback(index.close)
        contents = RedisContents(settings.redis, index)
        held.push_async_callback(contents.close)
        store = S3ObjectStore(settings.s3)
        held.push_async_callback(store.close)
        scoring = Scoring(settings, contents, clock, meters)
        held.push_async_callback(scoring.close)
        previews = Previews(store, settings, clock, meters)
        held.push_async_callback(previews.close)
        scoring.start()
        yield ApiParts(
            settings,
            clock,
            codec,
            index,
            meters,
            scoring=scoring,
            bodies=BodyRoom(settings.api.body_bytes_in_flight),
            objects=ReferencedObjects(store, UploadFilter.of(settings), settings.limits.max_bytes),
            previews=previews,
        )


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
            await uvicorn.Server(config).serve(sockets=[listening])


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
