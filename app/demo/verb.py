"""`./sightline demo`: the main job on real servers, with made pictures or your own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from app.demo.run import DemoOptions, run_demo
from app.verbs.output import JsonOption


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    cli.command("demo")(_demo)


def _demo(
    images: Annotated[int, typer.Option(min=1, max=100_000, help="Uploads in all, re-uploads included.")] = 500,
    s3: Annotated[
        str,
        typer.Option(help="S3 server: ministack (in memory, the default) or versitygw (on disk; needs Go once)."),
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            envvar="DEMO_IMAGES",
            exists=True,
            file_okay=False,
            help="Upload the image files of this folder instead of made ones.",
        ),
    ] = None,
    down: Annotated[
        bool, typer.Option("--down/--keep", help="End the servers afterwards, or keep them and the console.")
    ] = False,
    lake: Annotated[
        bool, typer.Option("--lake", help="With Kafka Connect and Iceberg tables: counts rows, and asks by SQL.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Equal seeds make equal pictures.")] = 1,
    limit: Annotated[float, typer.Option(help="Stop with an error if scoring takes more seconds than this.")] = 900.0,
    as_json: JsonOption = False,
) -> None:
    """Upload pictures to a local S3, score all of them, and count: every upload one outcome, none lost, none twice.

    Starts Kafka, a schema registry, Redis and S3 on loopback (a first start downloads about 190 MB), one process
    for each agent, and the API with its console, as `stack up --agents` does; a stack of that kind that runs is
    used. All of it goes on running unless --down is given: open the console at the address that is printed last.
    `./sightline stack down` ends it. Exit code 1 when the ledger does not add up.
    """
    options = DemoOptions(
        images=images,
        s3=s3,
        folder=folder,
        down=down,
        seed=seed,
        limit_seconds=limit,
        as_json=as_json,
        lake=lake,
    )
    raise typer.Exit(asyncio.run(run_demo(options, os.environ)))
