"""Process of the query service: creates everything from Settings and serves until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

import uvicorn

from app.access.failed_sign_ins import FailedSignIns
from app.access.keys import KeyRing, follow_keys
from app.access.rates import Rates
from app.access.redis_sessions import RedisSessions, RedisUse
from app.api.application import build_application
from app.api.background import beside
from app.api.bounded_http import BoundedHttp
from app.api.dependencies import ApiParts
from app.api.live_views import live_parts
from app.api.pictures import picture_parts
from app.errors import StartupRefused
from app.memory_trim import settle_heap
from app.moderation.decision_topic import KafkaDecisionTopic
from app.moderation.decisions import Decisions
from app.moderation.redis_decisions import RedisDecisionLog
from app.moderation.redis_queue import RedisQueue
from app.pipeline.index import ImageFacts
from app.settings import Settings
from app.systems.clock import SystemClock
from app.systems.kafka.producer import KafkaProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.prometheus import PrometheusMeters
from app.systems.redis.index import RedisIndex
from app.systems.redis.watch import RedisWatch
from app.systems.registry.avro import Codec

logger = logging.getLogger(__name__)
# Long polls and streams are asked to end; after this time they are cut off.
_DRAIN_SECONDS = 5
_KEEP_ALIVE_SECONDS = 75
# If Kafka answers, the keys are read well within this time. Else the service answers 503 until they are read.
_KEYS_SECONDS = 10.0


@asynccontextmanager
async def api_parts(settings: Settings) -> AsyncIterator[ApiParts]:
    """Yield the objects that the settings describe. Raises StartupRefused if the service could not work at all."""
    codec, clock, meters = Codec(), SystemClock(), PrometheusMeters()
    async with AsyncExitStack() as stack:
        index = RedisIndex(settings.redis, codec)
        stack.push_async_callback(index.close)
        sessions = RedisSessions(settings.redis, clock)
        stack.push_async_callback(sessions.close)
        use = RedisUse(settings.redis)
        stack.push_async_callback(use.close)
        watch = RedisWatch(settings.redis)
        stack.push_async_callback(watch.close)
        queue = RedisQueue(settings.redis, settings.moderation, clock)
        stack.push_async_callback(queue.close)
        log = RedisDecisionLog(settings.redis, clock)
        stack.push_async_callback(log.close)
        topic_log, producer = KafkaTopicLog(settings.kafka), KafkaProducer(settings.kafka, "sightline-api")
        stack.push_async_callback(producer.close)
        decisions = Decisions(
            facts=ImageFacts(index, queue, settings.moderation.actions),
            log=log,
            topic=KafkaDecisionTopic(producer, topic_log, codec),
            codec=codec,
            clock=clock,
            actions=settings.moderation.actions,
        )
        pictures = await stack.enter_async_context(picture_parts(settings, index, clock, meters))
        live = await stack.enter_async_context(live_parts(settings, clock, codec, index, meters))
        keys = KeyRing(clock)
        rates = Rates(clock, settings.api.rate_per_second, use)
        await stack.enter_async_context(beside(follow_keys(keys, topic_log, codec, clock), rates.run()))
        with suppress(TimeoutError):
            async with asyncio.timeout(_KEYS_SECONDS):
                await keys.filled.wait()
        yield ApiParts(
            settings=settings,
            clock=clock,
            codec=codec,
            index=index,
            meters=meters,
            keys=keys,
            sessions=sessions,
            rates=rates,
            sign_ins=FailedSignIns(clock),
            watch=watch,
            queue=queue,
            decision_log=log,
            decisions=decisions,
            live=live,
            pictures=pictures,
            checks=[*live.checks, pictures.check],
        )


async def run_api(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartupRefused when the port is taken."""
    listening = listen(settings.api.host, settings.api.port)
    with listening:
        async with api_parts(settings) as parts:
            logger.info("query service on http://%s:%d, console at /console", *listening.getsockname()[:2])
            settle_heap()
            await api_server(parts).serve(sockets=[listening])


def api_server(parts: ApiParts) -> ApiServer:
    """Return the server of all routes on `parts`."""
    config = uvicorn.Config(
        build_application(parts),
        http=BoundedHttp,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Longer than load balancers keep connections, so that they never write into one that is being closed.
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        # Only failed sign-ins use addresses, and a header could claim any address.
        proxy_headers=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    return ApiServer(config, parts)


class ApiServer(uvicorn.Server):
    """Server that asks waiting requests to end before it waits for them."""

    def __init__(self, config: uvicorn.Config, parts: ApiParts) -> None:
        super().__init__(config)
        self._parts = parts

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM and SIGINT, and return. Uvicorn's own method would raise the signal again afterwards."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the server in order."""
        self._parts.stopping.set()
        self._parts.live.flags.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. The kernel queues connections that arrive before the service is ready."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # TCP is named, because asyncio disables Nagle's algorithm only for sockets that say so. With Nagle's algorithm each
    # answer on a kept connection waits 40 ms for the client's acknowledgement of its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartupRefused(f"cannot listen on {host}:{port}: {error.strerror}; set SIGHTLINE_API_PORT") from error
    listener.listen(2048)
    return listener
