"""`./sightline stack up|down|status|init|lock`: the local stack of real servers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from app.cli.patience import patiently
from app.errors import StartupRefused
from app.settings import ROOT, Settings, load_settings

if TYPE_CHECKING:
    from app.stack.options import StackOptions
    from app.stack.state import StackState

_DETACH_SECONDS = 1200.0  # a first start may download 190 MB and build versitygw
_DOWN_SECONDS = 40.0


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    stack = typer.Typer(no_args_is_help=True, help="The local stack of real servers: Kafka, registry, Redis, S3.")
    stack.command("up")(_up)
    stack.command("down")(_down)
    stack.command("status")(_status)
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
    kafka_port: _Port = None,
    registry_port: _Port = None,
    redis_port: _Port = None,
    s3_port: _Port = None,
    connect_port: _Port = None,
) -> None:
    """Start the servers on loopback, create topics, register schemas, and run until Ctrl-C (or `stack down`).

    Data lie under var/stack, logs under var/log. A first start downloads about 190 MB, with the lake 400 MB.
    """
    from app.stack.options import LOCAL_LAKE, StackOptions, StoreKind

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
    )
    if detach:
        _start_in_background(options.var_dir, [word for word in sys.argv[1:] if word != "--detach"])
    else:
        asyncio.run(_run(options))


async def _run(options: StackOptions) -> None:
    from app.stack.local import LocalStack
    from app.stack.state import load_state

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
            _print_state(state)
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
        raise typer.Exit(1)
    report("down")


def _start_in_background(var_dir: Path, arguments: list[str]) -> None:
    from app.stack.state import load_state

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
    deadline = time.monotonic() + _DETACH_SECONDS
    with log_file.open() as lines:
        while time.monotonic() < deadline:
            print(lines.read(), end="", flush=True)
            if child.poll() is not None:
                print(lines.read(), end="", flush=True)
                raise typer.Exit(child.returncode or 1)
            state = load_state(var_dir)
            if state is not None and state.owner.pid == child.pid:
                return
            _wait_a_little(child)
    child.terminate()
    raise StartupRefused(f"the stack was not up after {_DETACH_SECONDS:.0f} s; see {log_file}")


def _wait_a_little(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(0.1)
    except subprocess.TimeoutExpired:
        return


def _down() -> None:
    """End the running stack, and what a killed one left behind. Data and logs stay."""
    from app.stack.processes import end_stale, ended, living_owner

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


def _status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    as_environment: Annotated[
        bool, typer.Option("--env", help='Lines for a shell: eval "$(./sightline stack status --env)"')
    ] = False,
) -> None:
    """Print the endpoints of the running stack; exit code 1 when none runs or a server of it does not."""
    import psutil

    from app.stack.state import load_state

    state = load_state(_settings().stack.var_dir.resolve())
    running = state is not None and all(psutil.pid_exists(server.pid) for server in state.servers)
    if as_json:
        print(json.dumps(_described(state), indent=1))
    elif state is None:
        print("no stack runs; start one with `./sightline stack up`", file=sys.stderr)
    elif as_environment:
        for name, value in state.environment.items():
            print(f"export {name}={value}")
    else:
        _print_state(state)
    raise typer.Exit(0 if running else 1)


def _settings() -> Settings:
    return load_settings(os.environ)


def _described(state: StackState | None) -> dict[str, Any]:
    import psutil

    if state is None:
        return {"running": False}
    servers = []
    for server in state.servers:
        try:
            rss_bytes = int(psutil.Process(server.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            rss_bytes = 0
        servers.append(
            {
                "name": server.name,
                "running": rss_bytes > 0,
                "endpoint": server.endpoint,
                "pid": server.pid,
                "rss_bytes": rss_bytes,
                "log_file": server.log_file,
            }
        )
    return {
        "running": all(server["running"] for server in servers),
        "pid": state.owner.pid,
        "s3": state.s3_kind,
        "servers": servers,
        "environment": dict(state.environment),
    }


def _print_state(state: StackState) -> None:
    for server in _described(state)["servers"]:
        condition = f"{server['rss_bytes'] / 1e6:4.0f} MB" if server["running"] else "not running"
        print(f"  {server['name']:<10} {server['endpoint']:<46} pid {server['pid']:<7} {condition}")
    for name, value in state.environment.items():
        print(f"  {name}={value}")
    if state.s3_kind == "ministack":
        from app.stack.store_servers import MINISTACK_NOTICE

        print(f"  note: {MINISTACK_NOTICE}")


def _init(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 2 where something is missing.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for servers that do not answer yet.")] = 0.0,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; waiting is told on standard error.")
    ] = False,
) -> None:
    """Create the topics and register the schemas at the configured servers (SIGHTLINE_KAFKA_…, SIGHTLINE_REGISTRY_URL).

    What exists is checked and left alone, so it may be run again and again.
    """
    from app.adapters.kafka_admin import check_topics, create_topics
    from app.adapters.registry import SchemaRegistry, check_registry, refuse_other_ids, register_all
    from app.stack.state import with_running_stack
    from app.topics import topics_of

    settings = load_settings(with_running_stack(os.environ))

    kafka, registry_url = settings.kafka, settings.registry.url
    specs = topics_of(settings.tables)
    told: dict[str, Any] = {"kafka": kafka.bootstrap, "topics": len(specs), "topics_created": []}

    async def init() -> None:
        if not check:
            told["topics_created"] += await create_topics(
                kafka.bootstrap, specs, partitions=kafka.partitions, prefix=kafka.prefix, replication=kafka.replication
            )
        await check_topics(kafka.bootstrap, specs, partitions=kafka.partitions, prefix=kafka.prefix)
        if check and registry_url:
            await check_registry(registry_url)
        elif registry_url:
            async with SchemaRegistry(registry_url) as registry:
                registered = await register_all(registry)
            refuse_other_ids(registered)
            told.update(registry=registry_url, schemas=len(registered))

    asyncio.run(patiently(init, wait))
    if json_output:
        print(json.dumps(told))
        return
    if not check:
        print(f"topics: {len(told['topics_created'])} created at {kafka.bootstrap}")
    if not registry_url:
        print("no SIGHTLINE_REGISTRY_URL: schemas were not registered")
    elif not check:
        print(f"schemas: {told['schemas']} registered at {registry_url}, ids as in schemas/ids.lock")


def _bucket(
    name: Annotated[str, typer.Argument(help="The bucket to create at SIGHTLINE_S3_ENDPOINT.")],
    queue: Annotated[str, typer.Option(help="Send its notifications to this SQS queue (made when absent).")] = "",
) -> None:
    """Create a bucket, and its notifications to a queue when one is named; what exists is left alone."""
    from app.adapters.s3_admin import StoreAccess, create_bucket, notify_queue
    from app.stack.state import with_running_stack

    s3 = load_settings(with_running_stack(os.environ)).s3
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
        from app.services.schema_check import write_shapes
        from app.stack.schema_lock import extend_lock

        added = asyncio.run(extend_lock(lambda line: print(line, flush=True)))
        write_shapes()
        print("\n".join(f"added {line}" for line in added) or "schemas/ids.lock is complete")
        return
    from app.stack.jars import LOCK_FILE, write_lock

    print(f"{write_lock(ROOT / '.tools' / 'maven')} files in {LOCK_FILE.relative_to(ROOT)}")
