"""`bench pipeline`: images per second end to end against the bare loop, hits against misses, memory, restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, cast

from app.bench.photographs import bench_photographs
from app.bench.rig import Report, Rig, StoredObject, usage
from app.bench.spread import Spread, rounded, slope, sustained
from app.demo.screen import shown
from app.errors import StartupRefused
from app.stack.processes import ServerProcess
from schemas.records import ImagePrediction

_WARM_UP: Final = 48
_RESTART_IMAGES: Final = 240
_SAMPLE_SECONDS: Final = 1.0
# Hits are so much quicker that a round of them needs more uploads to last some seconds.
_HITS_PER_MISS: Final = 4
_SOAK_CHUNK: Final = 1_000


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What to measure, and how long."""

    rounds: int
    images: int
    soak: int
    folder: Path | None
    s3: str
    restart: bool


@dataclass(frozen=True, slots=True)
class Round:
    """One round of uploads through the pipeline."""

    images_per_second: float
    cpu_seconds_per_upload: float
    hits: int
    latency_ms: tuple[int, ...]


@dataclass(slots=True)
class _Memory:
    """Resident bytes of the score worker over time."""

    pid: int
    peak_bytes: int = 0
    points: list[tuple[float, float]] = field(default_factory=list)
    _sampled_at: float = 0.0

    def sample(self, uploads: int) -> None:
        """Note the resident size, at most once a second."""
        now = time.monotonic()
        if now - self._sampled_at < _SAMPLE_SECONDS:
            return
        self._sampled_at = now
        rss_bytes = usage(self.pid).rss_bytes
        self.peak_bytes = max(self.peak_bytes, rss_bytes)
        self.points.append((float(uploads), float(rss_bytes)))


async def measure_pipeline(
    options: PipelineOptions, var_dir: Path, environment: Mapping[str, str], report: Report
) -> dict[str, Any]:
    """Return the JSON object that `bench pipeline` prints. Everything that it starts is ended before it returns."""
    async with Rig(var_dir, options.s3, environment, report) as rig:
        spare = _RESTART_IMAGES if options.restart else 0
        count = _WARM_UP + options.rounds * options.images + spare
        report(f"making and storing {count} distinct photographs of about 116 KB")
        objects = await rig.store(bench_photographs(count, options.folder), "photographs")
        warm, rest = objects[:_WARM_UP], objects[_WARM_UP:]
        report("loading the models twice: score worker and bare loop")
        await rig.start_worker("identify")
        worker = await rig.start_worker("score")
        bare_process = await rig.bare_loop()
        memory = _Memory(_pid(worker))
        await rig.bare_round(bare_process, warm)
        await _round(rig, worker, memory, warm, 0)

        bare: list[float] = []
        bare_cpu: list[float] = []
        misses: list[Round] = []
        hits: list[Round] = []
        uploads = len(warm)
        for number in range(options.rounds):
            part = rest[number * options.images : (number + 1) * options.images]
            answered = await rig.bare_round(bare_process, part)
            bare.append(sustained(cast("list[float]", answered["moments"])))
            bare_cpu.append(cast("float", answered["cpu_seconds"]) / len(part))
            missed = await _round(rig, worker, memory, part, uploads)
            uploads += len(part)
            repeated = list(islice(cycle(part), len(part) * _HITS_PER_MISS))
            hit = await _round(rig, worker, memory, repeated, uploads)
            uploads += len(repeated)
            if missed.hits or hit.hits != len(repeated):
                raise StartupRefused(f"round {number + 1}: {missed.hits} hits among misses, {hit.hits} among hits")
            misses.append(missed)
            hits.append(hit)
            report(
                f"round {number + 1} of {options.rounds}: bare {bare[-1]:.1f}/s, end to end "
                f"{missed.images_per_second:.1f}/s, hits {hit.images_per_second:.0f}/s"
            )
        if bare_process.stdin is not None:
            bare_process.stdin.close()
        await bare_process.wait()
        result = _speed(bare, bare_cpu, misses, hits)
        if options.soak:
            result["soak"] = await _soak(rig, worker, memory, rest, uploads, options.soak, report)
        if options.restart:
            result["restart_seconds"] = await _restart(rig, worker, rest[-spare:], report)
        result["peak_rss_bytes"] = memory.peak_bytes
        result["peak_rss_bytes_spread"] = _memory_spread(memory)
        result |= {
            "photograph_bytes": round(sum(stored.size_bytes for stored in objects) / len(objects)),
            "images_per_round": options.images,
            "s3": options.s3,
        }
        return result


def _speed(
    bare: Sequence[float], bare_cpu: Sequence[float], misses: Sequence[Round], hits: Sequence[Round]
) -> dict[str, Any]:
    figures = {
        "ratio": Spread(tuple(one.images_per_second / two for one, two in zip(misses, bare, strict=True))),
        "hit_speedup": Spread(
            tuple(
                miss.cpu_seconds_per_upload / hit.cpu_seconds_per_upload for miss, hit in zip(misses, hits, strict=True)
            )
        ),
        "images_per_second": Spread(tuple(one.images_per_second for one in misses)),
        "bare_images_per_second": Spread(tuple(bare)),
        "hits_per_second": Spread(tuple(one.images_per_second for one in hits)),
        "cpu_seconds_per_miss": Spread(tuple(one.cpu_seconds_per_upload for one in misses)),
        "cpu_seconds_per_hit": Spread(tuple(one.cpu_seconds_per_upload for one in hits)),
        "bare_cpu_seconds_per_image": Spread(tuple(bare_cpu)),
    }
    result: dict[str, Any] = {}
    for name, spread in figures.items():
        result[name] = rounded(spread.median)
        result[f"{name}_spread"] = spread.as_json()
    return result


async def _round(
    rig: Rig, worker: ServerProcess, memory: _Memory, objects: Sequence[StoredObject], before: int
) -> Round:
    """Announce `objects` at once, as a peak does, and measure until the last outcome."""
    moments: list[float] = []
    latencies: list[int] = []
    hits = 0

    def seen(sent_at: float, outcome: ImagePrediction) -> None:
        nonlocal hits
        if outcome.outcome != "scored":
            raise StartupRefused(f"{outcome.key} ended {outcome.outcome} {outcome.reason}: not a photograph to measure")
        moments.append(sent_at)
        latencies.append(outcome.scored_at_ms - outcome.event_time_ms)
        hits += outcome.cached

    started = usage(_pid(worker)).cpu_seconds
    await rig.announce(objects)
    await rig.outcomes(len(objects), seen, lambda: memory.sample(before + len(moments)))
    # What follows the last commit, table writes, belongs to the round.
    await asyncio.sleep(0.5)
    cpu_seconds = usage(_pid(worker)).cpu_seconds - started
    return Round(sustained(sorted(moments)), cpu_seconds / len(objects), hits, tuple(latencies))


async def _soak(
    rig: Rig,
    worker: ServerProcess,
    memory: _Memory,
    objects: Sequence[StoredObject],
    before: int,
    count: int,
    report: Report,
) -> dict[str, Any]:
    """Upload known contents again until `count` uploads went through this worker, and see whether its memory grows."""
    report(f"memory: {count} uploads through one worker, nearly all hits")
    source = cycle(objects)
    first = len(memory.points)
    done = before
    while done < count:
        chunk = list(islice(source, min(_SOAK_CHUNK, count - done)))
        await _round_of_hits(rig, memory, chunk, done)
        done += len(chunk)
    points = memory.points[first:]
    half = points[len(points) // 2 :]
    return {
        "uploads": done,
        "rss_bytes_at_start": round(points[0][1]),
        "rss_bytes_at_half": round(half[0][1]),
        "rss_bytes_at_end": round(points[-1][1]),
        "rss_growth_bytes_per_1000_uploads": round(slope(half) * 1000),
        "worker_pid_unchanged": worker.pid == memory.pid,
    }


async def _round_of_hits(rig: Rig, memory: _Memory, objects: Sequence[StoredObject], before: int) -> None:
    done = 0

    def seen(_now: float, _outcome: ImagePrediction) -> None:
        nonlocal done
        done += 1

    await rig.announce(objects)
    await rig.outcomes(len(objects), seen, lambda: memory.sample(before + done))


async def _restart(
    rig: Rig, worker: ServerProcess, objects: Sequence[StoredObject], report: Report
) -> dict[str, float]:
    """Kill the score worker amid its work and start it again: seconds until it publishes, and nothing twice."""
    report("restart: kill -9 of the score worker amid its work")
    uploads: list[str] = []
    killed_at = 0.0
    first: list[float] = []

    def seen(_sent_at: float, outcome: ImagePrediction) -> None:
        uploads.append(outcome.upload_id)
        # What the killed worker had committed may arrive late; what was scored after its end is the new one's.
        if killed_at and not first and outcome.scored_at_ms / 1000 > killed_at:
            first.append(time.time())

    await rig.announce(objects)
    await rig.outcomes(1, seen)
    await worker.stop(kill=True)
    killed_at = time.time()
    left = len(objects) - len(uploads)
    starting = asyncio.create_task(rig.start_worker("score"))
    try:
        await rig.outcomes(left, seen)
        await starting
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    if len(set(uploads)) != len(uploads):
        raise StartupRefused("an upload has two outcomes after the restart")
    if not first:
        raise StartupRefused("all outcomes were out before the kill")
    return {"to_first_outcome": rounded(first[0] - killed_at), "images_left": float(left)}


def _memory_spread(memory: _Memory) -> dict[str, float]:
    values = [value for _, value in memory.points]
    return {"min": min(values), "max": max(values)}


def _pid(process: ServerProcess) -> int:
    if process.pid is None:
        raise StartupRefused(f"{process.how.name} ended; see {shown(process.how.log_file)}")
    return process.pid
