"""`bench api`: look-ups against a bare route, POST /v1/score against the bare engine, each in turn on one machine."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.bench.api_records import indexed_outcome, path_of
from app.bench.api_score import measure_scoring
from app.bench.children import Children
from app.bench.http_load import Load, LoadResult
from app.bench.rig import Report, usage
from app.bench.spread import Spread, rounded
from app.errors import StartupRefused
from app.ports.index import IndexEntry
from app.settings import Settings, load_settings
from app.stack.local import LocalStack
from app.stack.options import StackOptions
from app.stack.ports import lease_port
from app.stack.probes import http_answers
from app.stack.verbs import run_verb, told_object
from app.systems.redis.index import RedisIndex
from app.systems.registry.avro import Codec

_BATCH: Final = 500
_CONNECTIONS: Final = 32
_WARM_UP_SECONDS: Final = 1.0
_ROUND_SECONDS: Final = 8.0
_STEADY_PER_SECOND: Final = 500
_STEADY_SECONDS: Final = 30.0
_READY_SECONDS: Final = 120.0
_BUCKET: Final = "images"


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """What to measure: images in the index, rounds of look-ups, and whether scoring too."""

    images: int
    rounds: int
    score: bool


async def measure_api(options: ApiOptions, var_dir: Path, given: Mapping[str, str], report: Report) -> dict[str, Any]:
    """Return the figures of bench/README.md. Servers are its own, on loopback, and end with it."""
    folder = var_dir / "bench-api"
    shutil.rmtree(folder, ignore_errors=True)
    stack = LocalStack(StackOptions(var_dir=folder, fresh=True, with_registry=False, with_s3=False), report)
    kept = {name: value for name, value in given.items() if not name.startswith("SIGHTLINE_")}
    async with AsyncExitStack() as held:
        await held.enter_async_context(stack)
        environment = {**kept, **stack.environment, "SIGHTLINE_STACK_VAR_DIR": str(folder / "none")}
        settings = load_settings(environment)
        await _fill(settings, options.images, report)
        token = await _token(environment)
        children = await held.enter_async_context(Children(folder, environment))
        api, bare = await _serve(held, children, options, report)
        result: dict[str, Any] = {"images": options.images}
        result |= await _lookups(options, api, bare, token, children, report)
        if options.score:
            result |= await measure_scoring(api, token, environment, report)
        return result


async def _fill(settings: Settings, images: int, report: Report) -> None:
    codec, index = Codec(), RedisIndex(settings.redis, Codec())
    began = time.monotonic()
    try:
        for first in range(0, images, _BATCH):
            records = [indexed_outcome(_BUCKET, number) for number in range(first, min(images, first + _BATCH))]
            await index.apply([IndexEntry(record, codec.encode(record)) for record in records])
            if (first // _BATCH) % 400 == 399:
                done = first + _BATCH
                report(f"index: {done} of {images} images ({done / (time.monotonic() - began):.0f}/s)")
    finally:
        await index.close()


async def _token(environment: Mapping[str, str]) -> str:
    """Return a key that no limit holds up: what is measured is the service, not its patience."""
    words = ("api", "keys", "create", "--name", "bench", "--scope", "read", "--scope", "score", "--rate", "1000000")
    code, text = await run_verb(environment, *words, "--json")
    found = told_object(text)
    if code == 0 and "key" in found:
        return str(found["key"])
    raise StartupRefused(f"no API key could be made (exit code {code}): {text[-500:]}")


async def _serve(held: AsyncExitStack, children: Children, options: ApiOptions, report: Report) -> tuple[str, str]:
    """Start the service and the bare route; return their addresses when both answer."""
    api, bare = lease_port(None, "the query service"), lease_port(None, "the bare route")
    held.callback(api.release)
    held.callback(bare.release)
    scoring = "--score" if options.score else "--no-score"
    children.start("api", "api", "--port", str(api.port), scoring)
    children.start("bare-route", "bench", "bare-route", "--port", str(bare.port))
    deadline = time.monotonic() + _READY_SECONDS
    for lease, path in ((api, "/healthz"), (bare, "/healthz")):
        while not await http_answers(lease.port, path):
            children.check()
            if time.monotonic() > deadline:
                raise StartupRefused(f"port {lease.port} did not answer after {_READY_SECONDS:.0f} s")
            await asyncio.sleep(0.1)
    report("the query service and the bare route answer")
    return f"http://127.0.0.1:{api.port}", f"http://127.0.0.1:{bare.port}"


async def _lookups(
    options: ApiOptions, api: str, bare: str, token: str, children: Children, report: Report
) -> dict[str, Any]:
    draw = random.Random(1)

    def image() -> str:
        return path_of(draw.randrange(options.images))

    ours = Load(api, {"Authorization": f"Bearer {token}"}, lambda: f"/v1/images/{_BUCKET}/{image()}", _CONNECTIONS)
    least = Load(bare, {}, lambda: f"/bare/{_BUCKET}/{image()}", _CONNECTIONS)
    pids = {name: children.pid_of(name) for name in ("api", "bare-route")}
    found: list[LoadResult] = []
    bares: list[LoadResult] = []
    cpu: list[float] = []
    bare_cpu: list[float] = []
    for number in range(options.rounds):
        bares.append(await _round(least, pids["bare-route"], bare_cpu))
        found.append(await _round(ours, pids["api"], cpu))
        report(
            f"look-ups, round {number + 1} of {options.rounds}: bare {bares[-1].per_second:.0f}/s, "
            f"the service {found[-1].per_second:.0f}/s"
        )
    async with ours:
        steady = await ours.at_rate(_STEADY_PER_SECOND, _STEADY_SECONDS)
    wrong = {status for one in (*found, *bares, steady) for status in one.statuses if status != 200}
    if wrong:
        raise StartupRefused(f"look-ups were answered with {sorted(wrong)}")
    spreads = {
        "lookup_ratio": [one.per_second / other.per_second for one, other in zip(found, bares, strict=True)],
        "lookups_per_second": [one.per_second for one in found],
        "bare_lookups_per_second": [one.per_second for one in bares],
        "lookup_cpu_us": cpu,
        "bare_lookup_cpu_us": bare_cpu,
    }
    result: dict[str, Any] = {}
    for name, rounds in spreads.items():
        spread = Spread(tuple(rounds))
        result[name] = rounded(spread.median)
        result[f"{name}_spread"] = spread.as_json()
    result["steady_per_second"] = rounded(steady.per_second)
    for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        result[f"steady_{name}_ms"] = rounded(steady.quantile(part) * 1000)
    return result


async def _round(load: Load, pid: int, cpu: list[float]) -> LoadResult:
    # Connections of their own for each round: servers close those that rest meanwhile.
    async with load:
        await load.as_fast_as_possible(_WARM_UP_SECONDS)
        before = usage(pid).cpu_seconds
        result = await load.as_fast_as_possible(_ROUND_SECONDS)
    cpu.append((usage(pid).cpu_seconds - before) / len(result.seconds) * 1e6)
    return result
