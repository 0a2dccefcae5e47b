"""Benchmark of decoding in child processes, of bombs and of quadrants: `./sightline bench decoding`."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.bench.photographs import bench_photographs
from app.bench.rig import Report, usage
from app.bench.spread import Spread, rounded
from app.domain.images import Rejection
from app.errors import StartupRefused
from app.inference.active import load_active
from app.inference.budget import Ticket
from app.inference.decoding.pool import DecodePool, image_limits
from app.inference.decoding.protocol import PrepareJob
from app.inference.decoding.work import DecodeWork
from app.inference.engine import Engine, smallest_side
from app.inference.manifest import Kind
from app.inference.registry import Registry
from app.inference.rendition_scoring import input_of
from app.settings import EngineSettings, Settings

# A picture of one colour that costs nearly as much as the limits allow.
_BOMB_SIDE: Final = 7_700
_TICK_SECONDS: Final = 0.001


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """`rounds` of `images` photographs each; the quadrants' cost is measured on `large` photographs of 1,600 pixels."""

    rounds: int
    images: int
    large: int


async def measure_decoding(options: DecodingOptions, settings: Settings, report: Report) -> dict[str, Any]:
    """Return the figures that bench/README.md explains. Blocks its loop while it measures work in this process."""
    registry = await asyncio.to_thread(load_active, settings.inference)
    bodies = list(bench_photographs(options.images, None))
    job, bomb = _job(registry, settings), _bomb()
    pool = DecodePool(settings.limits, settings.inference)
    pool_seconds: list[float] = []
    plain_seconds: list[float] = []
    idle_ms: list[float] = []
    bomb_ms: list[float] = []
    try:
        await _all(pool, bodies, job)
        for number in range(options.rounds):
            pool_seconds.append(await _pool_cpu(pool, bodies, job) / len(bodies))
            plain_seconds.append(_plain_cpu(settings, bodies, job) / len(bodies))
            idle_ms.append(await _longest_delay_ms(asyncio.sleep(3)))
            bomb_ms.append(await _longest_delay_ms(_two(pool, bomb, job)))
            report(
                f"round {number + 1} of {options.rounds}: {pool_seconds[-1] * 1000:.2f} ms of CPU in children, "
                f"{plain_seconds[-1] * 1000:.2f} ms in one process; two bombs delay the loop by {bomb_ms[-1]:.1f} ms"
            )
    finally:
        await pool.close()
    result: dict[str, Any] = {}
    for name, values in (
        ("decode_cpu_ratio", [one / other for one, other in zip(pool_seconds, plain_seconds, strict=True)]),
        ("decode_cpu_ms", [1000 * one for one in pool_seconds]),
        ("decode_cpu_ms_in_process", [1000 * one for one in plain_seconds]),
        ("loop_delay_ms_idle", idle_ms),
        ("loop_delay_ms_two_bombs", bomb_ms),
    ):
        found = Spread(tuple(values))
        result |= {name: rounded(found.median), f"{name}_spread": found.as_json()}
    if options.large:
        result |= await _quadrants(registry, settings, options.large, report)
    return result


def _job(registry: Registry, settings: Settings) -> PrepareJob:
    manifests = [one for one in registry.manifests if one.kind is not Kind.HEAD]
    specs = tuple({input_of(one).geometry: input_of(one) for one in manifests}.values())
    return PrepareJob(
        specs,
        smallest_side(registry.manifests),
        settings.engine.frames,
        settings.engine.quadrants_from_pixels,
        settings.limits.max_renditions,
    )


async def _all(pool: DecodePool, bodies: Sequence[bytes], job: PrepareJob) -> None:
    for found in await asyncio.gather(*(pool.run(body, job, Ticket()) for body in bodies)):
        if isinstance(found.result, Rejection):
            raise StartupRefused(f"a photograph of the bench is rejected: {found.result.detail}")
        found.release()


async def _pool_cpu(pool: DecodePool, bodies: Sequence[bytes], job: PrepareJob) -> float:
    before = usage(os.getpid()).cpu_seconds
    await _all(pool, bodies, job)
    return usage(os.getpid()).cpu_seconds - before


def _plain_cpu(settings: Settings, bodies: Sequence[bytes], job: PrepareJob) -> float:
    work, shared = DecodeWork(image_limits(settings.limits)), bytearray(1 << 20)
    work.answer(bodies[0], job, shared, lambda _: None)
    before = time.process_time()
    for body in bodies:
        work.answer(body, job, shared, lambda _: None)
    return time.process_time() - before


def _bomb() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (_BOMB_SIDE, _BOMB_SIDE)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


async def _two(pool: DecodePool, bomb: bytes, job: PrepareJob) -> None:
    for found in await asyncio.gather(*(pool.run(bomb, job, Ticket()) for _ in range(2))):
        found.release()


async def _longest_delay_ms(work: Any) -> float:
    """Return by how much the event loop was late at most, in ticks of a millisecond, while `work` ran."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    latest = 0.0
    while not task.done():
        due = loop.time() + _TICK_SECONDS
        await asyncio.sleep(_TICK_SECONDS)
        latest = max(latest, loop.time() - due)
    await task
    return latest * 1000


async def _quadrants(registry: Registry, settings: Settings, count: int, report: Report) -> dict[str, Any]:
    """Return the CPU of one large photograph with all models, without and with quadrants."""
    bodies = [_enlarged(body) for body in bench_photographs(count, None, seed=2)]
    found = {}
    for name, from_pixels in (("off", 0), ("on", 1)):
        engine_settings = EngineSettings(quadrants_from_pixels=from_pixels)
        engine = Engine(registry, settings.limits, settings.inference, engine_settings)
        try:
            await engine.score(bodies[0])
            before = usage(os.getpid()).cpu_seconds
            for answer in await asyncio.gather(*(engine.score(body) for body in bodies)):
                if isinstance(answer, Rejection):
                    raise StartupRefused(f"a photograph of the bench is rejected: {answer.detail}")
            found[name] = (usage(os.getpid()).cpu_seconds - before) / len(bodies)
        finally:
            await engine.close()
        report(f"quadrants {name}: {found[name] * 1000:.0f} ms of CPU for a photograph of 1,600 pixels")
    return {
        "quadrants_cpu_ratio": rounded(found["on"] / found["off"]),
        "cpu_ms_large_photograph": rounded(found["off"] * 1000),
        "cpu_ms_large_photograph_quadrants": rounded(found["on"] * 1000),
    }


def _enlarged(body: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(body)) as image:
        wide = image.convert("RGB").resize((1600, 1200), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    wide.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
