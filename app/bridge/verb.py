"""`./sightline bridge sqs`: bucket notifications from a queue to Kafka."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from app.settings import Settings, load_settings


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    bridge = typer.Typer(no_args_is_help=True, help="Bring bucket notifications from elsewhere to s3.uploads.")
    bridge.callback()(_group)
    bridge.command("sqs")(_sqs)
    cli.add_typer(bridge, name="bridge")


def _group() -> None:
    """Bring bucket notifications from elsewhere to s3.uploads."""


def _sqs(
    receivers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Receive loops; SIGHTLINE_SQS_RECEIVERS when left out.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start it again when it dies, after 1 s, doubled up to 30 s.")
    ] = False,
) -> None:
    """Copy every message of the queue SIGHTLINE_SQS_QUEUE_URL to s3.uploads, until SIGTERM or Ctrl-C.

    A message is deleted from the queue only after Kafka acknowledged it. The bridge waits while the queue or the broker
    is away, and loses nothing. Serves /metrics and /healthz on SIGHTLINE_WORKER_HTTP_PORT.
    """
    import asyncio

    settings = load_settings(os.environ)
    if restart:
        from app.verbs.supervise import Child, supervise

        words = () if receivers is None else ("--receivers", str(receivers))
        raise typer.Exit(supervise([Child(("bridge", "sqs", *words), "bridge")]))
    asyncio.run(_bridge(settings, receivers or settings.sqs.receivers))


async def _bridge(settings: Settings, receivers: int) -> None:
    import asyncio
    import logging
    import signal

    from app.bridge.bridge import Bridge
    from app.bridge.sqs import SqsQueue
    from app.systems.clock import SystemClock
    from app.systems.http_health import HealthServer
    from app.systems.kafka.client import KafkaProducer
    from app.systems.prometheus import PrometheusMeters
    from app.systems.registry.avro import Codec

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
