"""`./sightline stack up|down|status|init|lock`: the local stack of real servers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from agents import PIPELINE
from app.errors import StartupRefused
from app.exit_codes import ExitCode
from app.settings import ROOT, load_settings
from app.stack.jars import LOCK_FILE, write_lock
from app.stack.local import LocalStack
from app.stack.options import LOCAL_LAKE, StackOptions, StoreKind
from app.stack.processes import end_stale, ended, living_owner
from app.stack.schema_check import write_shapes
from app.stack.schema_lock import extend_lock
from app.stack.state import load_state
from app.stack.status import print_status, state_in_words
from app.systems.kafka.admin import check_topics, create_topics
from app.systems.registry.client import SchemaRegistry, check_registry, refuse_other_ids, register_all
from app.systems.s3.admin import StoreAccess, create_bucket, notify_queue
from app.topics import topics_of
from app.verbs.output import JsonOption, show
from app.verbs.wait_option import patiently

_DETACH_SECONDS = 1200.0  # a first start may download 190 MB and build versitygw
# Agents, Connect and the servers each have 20 s, one after the other; as a rule all are gone in 5.
_DOWN_SECONDS = 60.0


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    stack = typer.Typer(no_args_is_help=True, help="The local stack of real servers (Kafka, registry, Redis, S3).")
    stack.command("up")(_up)
    stack.command("down")(_down)
    stack.command("status")(print_status)
    stack.command("init")(_init)
    stack.command("bucket")(_bucket)
    stack.command("lock")(_lock)
    cli.add_typer(stack, name="stack")


_Port = Annotated[int | None, typer.Option(help="Port on 127.0.0.1; any free one when left out.", show_default=False)]


def _up(
    s3: Annotated[
        str, typer.Option(help="S3 server: ministack (in memory, a stand-in) or versitygw (on disk; needs Go once).")
    ] = "",
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running in the background.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove the data of earlier runs first.")] = False,
    lake: Annotated[bool, typer.Option("--lake", help="With Kafka Connect and the Iceberg tables it fills.")] = False,
    agents: Annotated[
        bool, typer.Option("--agents", help="With every agent, the bridge, and the API with its console, kept alive.")
    ] = False,
    score: Annotated[
        bool, typer.Option(help="With --agents: the API also loads the models (1 GB), for POST /v1/score.")
    ] = True,
    kafka_port: _Port = None,
    registry_port: _Port = None,
    redis_port: _Port = None,
    s3_port: _Port = None,
    connect_port: _Port = None,
    api_port: Annotated[
        int | None, typer.Option(help="Port of the API; 8080 or any free one when left out.", show_default=False)
    ] = None,
) -> None:
    """Start the servers on loopback, create topics, register schemas, and run until Ctrl-C (or `stack down`).

    Data lie under var/stack, logs under var/log. A first start downloads about 190 MB, with the lake 400 MB.

    With --agents uploads are scored from then on. An agent that dies is started again; one that stopped for good (too
    many dead letters) leaves the rest running, `stack status` shows it, and `worker NAME --restart` runs it again. The
    user's API key, with every scope, is made once and kept in var/stack/api-key.
    """
    settings = load_settings(os.environ)
    kind = s3 or settings.stack.s3
    if kind not in ("ministack", "versitygw"):
        raise StartupRefused(f"--s3 {kind}: choose ministack or versitygw")
    options = StackOptions(
        var_dir=settings.stack.var_dir.resolve(),
        s3=cast("StoreKind", kind),
        partitions=settings.kafka.partitions,
        topic_prefix=settings.kafka.prefix,
        tables=settings.tables,
        fresh=fresh,
        kafka_port=kafka_port,
        registry_port=registry_port,
        redis_port=redis_port,
        s3_port=s3_port,
        connect_port=connect_port,
        with_lake=lake,
        lake=load_settings({**LOCAL_LAKE, **os.environ}).lake,
        agents=PIPELINE if agents else (),
        # What the caller set himself wins in every verb, so the API has to be there.
        api_port=api_port or (settings.api.port if "SIGHTLINE_API_PORT" in os.environ else None) or None,
        api_score=score and settings.api.score,
    )
    if detach:
        _start_in_background(options.var_dir, [word for word in sys.argv[1:] if word != "--detach"])
    else:
        asyncio.run(_run(options))


async def _run(options: StackOptions) -> None:
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {line}", flush=True)

    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    stack = LocalStack(options, report)
    # A signal during the start ends it at once, and what was started with it.
    entering, asking = asyncio.create_task(stack.__aenter__()), asyncio.create_task(asked.wait())
    await asyncio.wait({entering, asking}, return_when=asyncio.FIRST_COMPLETED)
    if not entering.done():
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        report("ended before it was up")
        return
    await entering
    try:
        report("up; Ctrl-C or `./sightline stack down` ends it")
        state = load_state(options.var_dir)
        if state is not None:
            print(*state_in_words(state, options.var_dir), sep="\n")
        sys.stdout.flush()
        failing = asyncio.create_task(stack.wait_for_exit())
        await asyncio.wait({asking, failing}, return_when=asyncio.FIRST_COMPLETED)
        failing.cancel()
        failure = failing.result() if failing.done() and not failing.cancelled() else None
    finally:
        asking.cancel()
        await stack.__aexit__(None, None, None)
    if failure is not None:
        print(f"sightline: {failure}; the stack was ended", file=sys.stderr)
        raise typer.Exit(ExitCode.FINDING)
    report("down")


def _start_in_background(var_dir: Path, arguments: list[str]) -> None:
    log_file = var_dir / "log" / "stack.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Who gives up waiting does not want it to go on starting.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        _wait_until_ready(child, var_dir, log_file)
    except BaseException:
        child.terminate()
        raise


def _wait_until_ready(child: subprocess.Popen[bytes], var_dir: Path, log_file: Path) -> None:
    deadline = time.monotonic() + _DETACH_SECONDS
    with log_file.open() as lines:
        while time.monotonic() < deadline:
            print(lines.read(), end="", flush=True)
            if child.poll() is not None:
                print(lines.read(), end="", flush=True)
                raise typer.Exit(child.returncode or ExitCode.FINDING)
            state = load_state(var_dir)
            ready = state is not None and state.owner.pid == child.pid and state.ready
            # What it says last may come a moment after its state.
            _wait_a_little(child)
            if ready:
                print(lines.read(), end="", flush=True)
                return
    raise StartupRefused(f"the stack was not up after {_DETACH_SECONDS:.0f} s; see {log_file}")


def _wait_a_little(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(0.1)
    except subprocess.TimeoutExpired:
        return


def _down() -> None:
    """End the running stack, and what a killed one left behind. Data and logs stay."""
    settings = load_settings(os.environ)
    pid_dir = settings.stack.var_dir.resolve() / "run"

    async def down() -> list[str]:
        done = []
        owner = living_owner(pid_dir)
        if owner is not None:
            os.kill(owner.pid, signal.SIGTERM)
            if not await ended(lambda: not owner.alive(), _DOWN_SECONDS):
                os.kill(owner.pid, signal.SIGKILL)
                await ended(lambda: not owner.alive(), 5.0)
            done.append(f"stack (pid {owner.pid})")
        done.extend(await end_stale(pid_dir))
        return done

    done = asyncio.run(down())
    print(f"ended: {', '.join(done)}" if done else "no stack runs")


def _init(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 2 where something is missing.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for servers that do not answer yet.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Create the topics and register the schemas at the configured servers (SIGHTLINE_KAFKA_…, SIGHTLINE_REGISTRY_URL).

    What exists is checked and left alone, so it may be run again and again.
    """
    settings = load_settings(os.environ)

    kafka, registry_url = settings.kafka, settings.registry.url
    specs = topics_of(settings.tables)
    summary: dict[str, Any] = {"kafka": kafka.bootstrap, "topics": len(specs), "topics_created": []}

    async def init() -> None:
        if not check:
            summary["topics_created"] += await create_topics(
                kafka.bootstrap, specs, partitions=kafka.partitions, prefix=kafka.prefix, replication=kafka.replication
            )
        await check_topics(kafka.bootstrap, specs, partitions=kafka.partitions, prefix=kafka.prefix)
        if check and registry_url:
            await check_registry(registry_url)
        elif registry_url:
            async with SchemaRegistry(registry_url) as registry:
                registered = await register_all(registry)
            refuse_other_ids(registered)
            summary.update(registry=registry_url, schemas=len(registered))

    asyncio.run(patiently(init, wait))
    words = [] if check else [f"topics: {len(summary['topics_created'])} created at {kafka.bootstrap}"]
    if not registry_url:
        words.append("no SIGHTLINE_REGISTRY_URL: schemas were not registered")
    elif not check:
        words.append(f"schemas: {summary['schemas']} registered at {registry_url}, ids as in schemas/ids.lock")
    show(as_json, summary, words)


def _bucket(
    name: Annotated[str, typer.Argument(help="The bucket to create at SIGHTLINE_S3_ENDPOINT.")],
    queue: Annotated[str, typer.Option(help="Send its notifications to this SQS queue (made when absent).")] = "",
) -> None:
    """Create a bucket, and its notifications to a queue when one is named; what exists is left alone."""
    s3 = load_settings(os.environ).s3
    access = StoreAccess(s3.endpoint, s3.access_key, s3.secret_key.reveal(), s3.region)
    if queue:
        print(f"bucket {name} notifies {asyncio.run(notify_queue(access, name, queue))}")
    else:
        asyncio.run(create_bucket(access, name))
        print(f"bucket {name} is there")


def _lock(
    schemas: Annotated[bool, typer.Option("--schemas", help="Write schemas/ids.lock instead.")] = False,
) -> None:
    """Write app/stack/maven.lock anew: resolve the jars of Kafka and the registry, download them, note their sha256.

    With --schemas: append schemas that have no id yet to schemas/ids.lock, numbered by a fresh registry.
    """
    if schemas:
        added = asyncio.run(extend_lock(lambda line: print(line, flush=True)))
        write_shapes()
        print("\n".join(f"added {line}" for line in added) or "schemas/ids.lock is complete")
        return
    print(f"{write_lock(ROOT / '.tools' / 'maven')} files in {LOCK_FILE.relative_to(ROOT)}")
