"""The process of the bridge: builds its parts from settings and runs it until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal

from app.bridge.bridge import Bridge
from app.bridge.sqs import SqsQueue
from app.settings import Settings
from app.systems.clock import SystemClock
from app.systems.http_health import HealthServer
from app.systems.kafka.producer import KafkaProducer
from app.systems.prometheus import PrometheusMeters
from app.systems.registry.avro import Codec


async def run_bridge(settings: Settings, receivers: int) -> None:
    """Bridge with `receivers` receive loops until SIGTERM or SIGINT, and serve /metrics and /healthz meanwhile."""
    logging.basicConfig(
        level=settings.worker.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logger = logging.getLogger("bridge")
    meters = PrometheusMeters()
    queue = SqsQueue(settings.sqs, settings.s3)
    producer = KafkaProducer(settings.kafka, "sightline.bridge")
    bridge = Bridge(
        queue,
        producer,
        Codec(),
        SystemClock(),
        meters,
        receivers=receivers,
        visibility_seconds=settings.sqs.visibility_seconds,
    )
    health = HealthServer(settings.worker.http_host, settings.worker.http_port, meters.text, bridge.state.shown)
    await health.start()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, bridge.stop)
    logger.info(
        "bridging %s to %ss3.uploads at %s with %d receivers; http://%s:%d/metrics",
        settings.sqs.queue_url,
        settings.kafka.prefix,
        settings.kafka.bootstrap,
        receivers,
        settings.worker.http_host,
        health.port,
    )
    try:
        await bridge.run()
    finally:
        await queue.close()
        await producer.close()
        await health.stop()
    logger.info("ended: %d messages bridged, %d deleted from the queue", bridge.state.bridged, bridge.state.deleted)
