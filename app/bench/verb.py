"""`./sightline bench pipeline|transactions|lake|api|decoding`: speed and memory on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.settings import ROOT, load_settings
from app.verbs.output import JsonOption, show

if TYPE_CHECKING:
    from app.bench.rig import Report


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    bench = typer.Typer(
        no_args_is_help=True, help="Measure speed and memory on this machine (bench/README.md: how to read it)."
    )
    bench.command("pipeline")(_pipeline)
    bench.command("transactions")(_transactions)
    bench.command("lake")(_lake)
    bench.command("api")(_api)
    bench.command("decoding")(_decoding)
    bench.command("bare", hidden=True)(_bare)
    bench.command("bare-route", hidden=True)(_bare_route)
    cli.add_typer(bench, name="bench")


def _pipeline(
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Rounds; each measures everything once.")] = 3,
    images: Annotated[int, typer.Option(min=20, max=10_000, help="Distinct photographs in a round.")] = 1200,
    soak: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Uploads through one worker while its memory is watched; 0: none.")
    ] = 20_000,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--images-dir", exists=True, file_okay=False, help="JPEG files of this folder instead of made ones."
        ),
    ] = None,
    s3: Annotated[str, typer.Option(help="versitygw or ministack; versitygw where Go or a built one is.")] = "",
    restart: Annotated[bool, typer.Option(help="Also measure a restart after kill -9.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Images a second end to end and in the bare loop, CPU of hits and misses, memory, restart.

    Kafka, S3, identify and score share this machine, as do the bare loop's S3 reads. About 12 minutes on two cores.
    """
    from app.bench.pipeline import PipelineOptions, measure_pipeline

    var_dir = load_settings(os.environ).stack.var_dir.resolve()
    options = PipelineOptions(
        rounds=rounds, images=images, soak=soak, folder=folder, s3=s3 or _best_store(), restart=restart
    )
    result = asyncio.run(measure_pipeline(options, var_dir, os.environ, _report(as_json)))
    show(as_json, result, _words(result))


def _transactions(
    count: Annotated[int, typer.Option(min=100, max=10_000_000, help="Transactions of one record each.")] = 100_000,
    limit: Annotated[float, typer.Option(help="Write no more after so many seconds.")] = 3_600.0,
    as_json: JsonOption = False,
) -> None:
    """Memory of a worker over many small transactions on the topic that it reads."""
    from app.bench.transactions import TransactionsOptions, measure_transactions

    var_dir = load_settings(os.environ).stack.var_dir.resolve()
    options = TransactionsOptions(count=count, limit_seconds=limit)
    result = asyncio.run(measure_transactions(options, var_dir, os.environ, _report(as_json)))
    show(as_json, result, _words(result))


def _lake(
    records: Annotated[int, typer.Option(min=100, max=100_000_000, help="Records, each of which becomes a row.")] = (
        2_000_000
    ),
    days: Annotated[int, typer.Option(min=1, max=28, help="Days that their timestamps are spread over.")] = 20,
    s3: Annotated[str, typer.Option(help="versitygw or ministack; versitygw where Go or a built one is.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Rows a second from topic to query with one task, seconds until one is seen, SQL over all of them, compaction.

    Kafka, the registry, S3 and Connect share this machine. About 10 minutes on two cores.
    """
    from app.bench.lake import LakeOptions, measure_lake

    var_dir = load_settings(os.environ).stack.var_dir.resolve()
    options = LakeOptions(records=records, days=days, s3=s3 or _best_store())
    result = asyncio.run(measure_lake(options, var_dir, os.environ, _report(as_json)))
    show(as_json, result, _words(result))


def _api(
    images: Annotated[int, typer.Option(min=1000, max=20_000_000, help="Images in the index.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Rounds of look-ups, each against the bare route.")] = 5,
    score: Annotated[bool, typer.Option(help="Also measure POST /v1/score.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Look-ups a second against a bare FastAPI+Redis route, their latency at 500/s, POST /v1/score against the engine.

    Kafka, Redis, the service and the client share this machine. About 8 minutes on two cores, and 3 GB for Redis.
    """

    import uvloop

    from app.bench.api import ApiOptions, measure_api

    var_dir = load_settings(os.environ).stack.var_dir.resolve()
    options = ApiOptions(images=images, rounds=rounds, score=score)
    result = uvloop.run(measure_api(options, var_dir, os.environ, _report(as_json)))
    show(as_json, result, _words(result))


def _decoding(
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Rounds; each measures everything once.")] = 3,
    images: Annotated[int, typer.Option(min=10, max=10_000, help="Distinct photographs in a round.")] = 200,
    large: Annotated[
        int, typer.Option(min=0, max=1000, help="Large photographs that quadrants are measured on; 0: none.")
    ] = 24,
    as_json: JsonOption = False,
) -> None:
    """CPU of decoding in child processes against one process, the loop's delay under two bombs, the cost of quadrants.

    About 2 minutes on two cores.
    """

    import uvloop

    from app.bench.decoding import DecodingOptions, measure_decoding

    options = DecodingOptions(rounds=rounds, images=images, large=large)
    result = uvloop.run(measure_decoding(options, load_settings(os.environ), _report(as_json)))
    show(as_json, result, _words(result))


def _bare_route(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")]) -> None:
    """Serve the bare route (what `bench api` starts)."""

    import uvloop

    from app.bench.bare_route import serve_bare_route

    uvloop.run(serve_bare_route(load_settings(os.environ), port))


def _bare() -> None:
    """Serve the bare loop on standard input and output (what `bench pipeline` starts)."""
    from app.bench.bare import serve

    asyncio.run(serve(load_settings(os.environ)))


def _best_store() -> str:
    return "versitygw" if shutil.which("go") or (ROOT / ".tools" / "versitygw").exists() else "ministack"


def _report(quiet: bool) -> Report:
    began = time.monotonic()

    def report(line: str) -> None:
        # Progress goes to standard error, so that --json leaves standard output to the object.
        typer.echo(f"[{time.monotonic() - began:6.1f} s] {line}", err=quiet)

    return report


def _words(result: Mapping[str, Any]) -> Iterator[str]:
    for name, value in result.items():
        if not name.endswith("_spread"):
            spread = result.get(f"{name}_spread")
            more = f"   ({spread['min']:g} to {spread['max']:g})" if spread else ""
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            yield f"{name:<28} {shown}{more}"
