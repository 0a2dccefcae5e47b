"""`./sightline bridge sqs`: bucket notifications from a queue to Kafka."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from app.settings import load_settings
from app.verbs.supervise import Child, supervise


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
    settings = load_settings(os.environ)
    if restart:
        words = () if receivers is None else ("--receivers", str(receivers))
        raise typer.Exit(supervise([Child(("bridge", "sqs", *words), "bridge")]))
    # Imported here: a supervisor stays small.
    from app.bridge.serve import run_bridge

    asyncio.run(run_bridge(settings, receivers or settings.sqs.receivers))
