"""`bench lake`: how fast records become rows, how soon one is seen, and how fast SQL answers over millions of them.

The topic is filled first, then the connector of the predictions begins at its start with one task: what is measured is
the sink alone, from its start to the last row that a query sees. Records are as wide as real ones: four models with
their labels; ids, digests, scores and times differ.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import psutil

from app.bench.rig import Report
from app.bench.spread import rounded
from app.domain.contents import WHOLE
from app.domain.lake import table_named
from app.errors import StartupRefused
from app.lake.connect.client import ConnectClient
from app.lake.connect.config import connector_config, connector_name
from app.lake.iceberg.catalog import newest_snapshot, open_catalog
from app.lake.iceberg.read import TableReader
from app.settings import Settings, load_settings
from app.stack.local import CONNECT, LocalStack
from app.stack.options import StackOptions, StoreKind
from app.stack.verbs import run_verb
from app.systems.kafka.producer import KafkaProducer
from app.systems.registry.avro import Codec
from app.topics import DAY_MS, PREDICTIONS
from schemas.records import ImagePrediction, LabelScore, ModelScores, Position, Timings

# 10 million uploads a day.
MEAN_LOAD_PER_SECOND: Final = 10_000_000 / 86_400
_SINK_SECONDS: Final = 1_800.0
_PROBES: Final = 5
_TEMPLATES: Final = 500
_ID: Final = "0" * 32
_SHA: Final = "0" * 64
_NAME: Final = "x" * 16
_BATCH: Final = 2_000
_CLASSES: Final = ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")
_DEFECTS: Final = ("blurry", "dark", "noisy", "overcompressed", "bright", "low_contrast")
# What analysts group by, on the table and on each kind of view; `{when}` is the condition of one day, or none.
_QUERIES: Final[Mapping[str, str]] = {
    "uploads_by_day_and_reason": (
        "select date_trunc('day', event_time_ms) as day, reasons, count(*) as uploads, "
        "count(distinct sha256) as contents from predictions where true{when} "
        "group by all order by uploads desc limit 20"
    ),
    "scores_by_label": (
        "select model, version, label, count(*) as uploads, avg(value) as mean from prediction_scores "
        "where true{when} group by all order by all"
    ),
    "uploads_by_category": (
        "select category, count(*) as uploads, avg(category_score) as mean from predictions_all "
        "where true{when} group by all order by all"
    ),
    "images_by_category": (
        "select category, count(*) as images from predictions_latest where true{when} group by all order by all"
    ),
}
_ONE_DAY: Final = " and {time} >= current_date - 1 and {time} < current_date"
_TIMES: Final[Mapping[str, str]] = {
    "uploads_by_day_and_reason": "kafka_timestamp",
    "scores_by_label": "kafka_timestamp",
    "uploads_by_category": "event_time",
}


@dataclass(frozen=True, slots=True)
class LakeOptions:
    """How many records over how many days, and which S3 server."""

    records: int
    days: int
    s3: str


async def measure_lake(
    options: LakeOptions, var_dir: Path, environment: Mapping[str, str], report: Report
) -> dict[str, Any]:
    """Return the JSON object that `bench lake` prints."""
    stack = LocalStack(
        StackOptions(
            var_dir=var_dir / "bench-lake",
            s3=cast("StoreKind", options.s3),
            fresh=True,
            with_redis=False,
            with_lake=True,
        ),
        report,
    )
    async with stack:
        kept = {name: value for name, value in environment.items() if not name.startswith("SIGHTLINE_")}
        verbs = {**kept, **stack.environment}
        settings = load_settings(stack.environment)
        return await _measure(options, stack, settings, verbs, report)


async def _measure(
    options: LakeOptions, stack: LocalStack, settings: Settings, verbs: Mapping[str, str], report: Report
) -> dict[str, Any]:
    table = table_named("predictions")
    name = connector_name(settings, table)
    catalog = open_catalog(settings)
    bench = _Bench(settings, lambda: newest_snapshot(catalog, settings, table))
    async with ConnectClient(settings.lake.connect_url) as connect:
        await connect.delete(name)
        report(f"publishing {options.records} records over {options.days} days")
        await bench.publish(options.records, options.days)
        began = time.monotonic()
        await connect.apply(name, connector_config(settings, table))
        report("the connector begins, with one task")
        peak_rss = await bench.until(options.records, stack.pid_of(CONNECT), report)
        seconds = time.monotonic() - began
    probes = [await bench.probe(options.records + number + 1, number) for number in range(_PROBES)]
    rows = options.records + _PROBES
    reader = TableReader(catalog, settings, table)
    before = await asyncio.to_thread(_files_by_day, reader)
    asked = await _ask(verbs)
    report("compacting")
    compacting = time.monotonic()
    await _must(verbs, "lake", "compact", "--table", "predictions")
    compact_seconds = time.monotonic() - compacting
    after = await asyncio.to_thread(_files_by_day, reader)
    asked_after = await _ask(verbs)
    code, told = await run_verb(verbs, "lake", "verify", "--table", "predictions")
    target = settings.lake.target_file_bytes
    return {
        "records": options.records,
        "rows_per_second": rounded(options.records / seconds),
        "load_ratio": rounded(options.records / seconds / MEAN_LOAD_PER_SECOND),
        "visible_seconds_worst": rounded(max(probes)),
        "visible_intervals_worst": rounded(max(probes) / settings.lake.commit_seconds),
        "visible_seconds": [rounded(value) for value in probes],
        "connect_peak_rss_bytes": peak_rss,
        "rows": rows,
        "sql": asked,
        "sql_after_compact": asked_after,
        "compact_seconds": rounded(compact_seconds),
        "files_before": sum(len(sizes) for sizes in before.values()),
        "files_after": sum(len(sizes) for sizes in after.values()),
        "bytes_after": sum(sum(sizes) for sizes in after.values()),
        # One file for each 128 MB of a day, begun ones included.
        "days_with_more_files_than_allowed": sum(len(sizes) > -(-sum(sizes) // target) for sizes in after.values()),
        "verify": told.strip().splitlines()[-1] if told.strip() else f"exit code {code}",
    }


class _Bench:
    """The topic's writer and the watcher of the table."""

    def __init__(self, settings: Settings, newest: Callable[[], tuple[int, int] | None]) -> None:
        self._settings = settings
        self._newest = newest
        self._random = random.Random(1)

    async def publish(self, count: int, days: int) -> None:
        """Write `count` records, day after day, each with times of its day."""
        from aiokafka import AIOKafkaProducer

        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka.bootstrap,
            enable_idempotence=True,
            linger_ms=20,
            max_batch_size=512 * 1024,
        )
        await producer.start()
        try:
            today_ms = int(time.time() * 1000) // DAY_MS * DAY_MS
            for day in range(days):
                start_ms = today_ms - (days - 1 - day) * DAY_MS
                share = count // days + (1 if day < count % days else 0)
                pending = []
                for number, value in enumerate(_records(share, start_ms, self._random)):
                    # The last day is today: no time of it may lie ahead.
                    at_ms = min(start_ms + number * DAY_MS // max(share, 1), int(time.time() * 1000))
                    pending.append(await producer.send(PREDICTIONS, value, key=value[6:38], timestamp_ms=at_ms))
                    if len(pending) >= _BATCH:
                        await asyncio.gather(*pending)
                        pending.clear()
                await asyncio.gather(*pending)
        finally:
            await producer.stop()

    async def until(self, rows: int, pid: int | None, report: Report) -> int:
        """Wait until a query would see `rows`; return Connect's largest resident size meanwhile."""
        deadline = time.monotonic() + _SINK_SECONDS
        peak, seen = 0, -1
        while time.monotonic() < deadline:
            if pid is not None:
                peak = max(peak, int(psutil.Process(pid).memory_info().rss))
            found = await asyncio.to_thread(self._newest)
            if found is not None and found[1] != seen:
                seen = found[1]
                report(f"{seen} rows")
            if seen >= rows:
                return peak
            await asyncio.sleep(0.5)
        raise StartupRefused(f"{seen} of {rows} rows after {_SINK_SECONDS:.0f} s")

    async def probe(self, rows: int, number: int) -> float:
        """Publish one record at some moment of an interval; return the seconds until a query would see it."""
        await asyncio.sleep(self._settings.lake.commit_seconds * number / _PROBES)
        producer = KafkaProducer(self._settings.kafka, "sightline-bench")
        try:
            (value,) = _records(1, int(time.time() * 1000), self._random)
            began = time.monotonic()
            await producer.send_batch([(PREDICTIONS, value[6:38], value)])
            while True:
                found = await asyncio.to_thread(self._newest)
                if found is not None and found[1] >= rows:
                    return time.monotonic() - began
                if time.monotonic() - began > 20 * self._settings.lake.commit_seconds:
                    raise StartupRefused(f"a record was not seen after {time.monotonic() - began:.0f} s")
                await asyncio.sleep(0.1)
        finally:
            await producer.close()


async def _ask(verbs: Mapping[str, str]) -> dict[str, Any]:
    """Return how long `lake sql` took, its start included, over all rows and over one day of them."""
    found: dict[str, Any] = {}
    for name, sql in _QUERIES.items():
        found[f"{name}_seconds"] = await _timed(verbs, sql.format(when=""))
        if name in _TIMES:
            one_day = sql.format(when=_ONE_DAY.format(time=_TIMES[name]))
            found[f"{name}_one_day_seconds"] = await _timed(verbs, one_day)
            found[f"{name}_one_day_files"] = await _files_read(verbs, one_day)
    return found


async def _timed(verbs: Mapping[str, str], sql: str) -> float:
    began = time.monotonic()
    await _must(verbs, "lake", "sql", "--format", "json", sql)
    return rounded(time.monotonic() - began)


async def _files_read(verbs: Mapping[str, str], sql: str) -> str:
    told = await _must(verbs, "lake", "sql", "--explain", sql)
    lines = [line.strip() for line in told.splitlines() if "files read" in line]
    return lines[-1] if lines else told.strip()[-200:]


async def _must(verbs: Mapping[str, str], *arguments: str) -> str:
    code, told = await run_verb(verbs, *arguments)
    if code != 0:
        raise StartupRefused(f"{' '.join(arguments)[:80]} ended with exit code {code}: {told.strip()[-500:]}")
    return told


def _files_by_day(reader: TableReader) -> dict[str, list[int]]:
    reader.open()
    found: dict[str, list[int]] = {}
    for file in reader.files():
        found.setdefault(file.day, []).append(file.size_bytes)
    return found


def _records(count: int, day_ms: int, chance: random.Random) -> Iterator[bytes]:
    """Yield encoded outcomes; a third repeats bytes of an earlier one, as uploads do."""
    codec = Codec()
    made = [codec.encode(_prediction(day_ms, chance)) for _ in range(min(count, _TEMPLATES))]
    digests: list[bytes] = []
    for number in range(count):
        value = made[number % len(made)]
        position, name = value.index(_SHA.encode(), 38), value.index(_NAME.encode(), 38)
        if digests and chance.random() < 0.3:
            digest = chance.choice(digests)
        else:
            digest = secrets.token_hex(32).encode()
            if len(digests) < 50_000:
                digests.append(digest)
        made_one = bytearray(value)
        # Byte 0 and the schema's id, the length of the id, the id.
        made_one[6:38] = secrets.token_hex(16).encode()
        made_one[name : name + 16] = secrets.token_hex(8).encode()
        made_one[position : position + 64] = digest
        yield bytes(made_one)


def _prediction(day_ms: int, chance: random.Random) -> ImagePrediction:
    """Return one outcome of a day, with the scores of four models."""
    event_ms = day_ms + chance.randrange(DAY_MS)
    best = chance.choice(_CLASSES)
    rest = [chance.random() for _ in _CLASSES]
    category = tuple(
        LabelScore(label, 0.7 if label == best else 0.3 * share / sum(rest))
        for label, share in zip(_CLASSES, rest, strict=True)
    )
    quality = tuple(LabelScore(name, chance.random() ** 3) for name in _DEFECTS)
    text = chance.random() ** 4
    scores = (
        ModelScores("nsfw", "1", "open_nsfw-1", (LabelScore("nsfw", chance.random() ** 6),), (), False, ""),
        ModelScores("category", "1", "open_nsfw-1", category, (), False, ""),
        ModelScores("quality", "1", "open_nsfw-1", quality, (), False, ""),
        ModelScores("embedded_text", "1", "ppocr-1", (LabelScore("text", text),), (), False, ""),
    )
    reasons = (("content.embedded_text",) if text > 0.39 else ()) + (
        ("quality.blurry",) if scores[2].labels[0].value > 0.6 else ()
    )
    return ImagePrediction(
        upload_id=_ID,
        bucket="images",
        key=f"{event_ms % 997}/{_NAME}.jpg",
        version_id=None,
        etag=secrets.token_hex(16),
        size_bytes=chance.randrange(20_000, 400_000),
        sha256=_SHA,
        outcome="scored",
        reason="",
        detail="",
        superseded=False,
        cached=False,
        format="jpeg",
        width=960,
        height=720,
        scores=scores,
        reasons=reasons,
        previous=(),
        dialect="aws",
        sequencer=f"{event_ms:016X}",
        order_key=f"{event_ms:016X}",
        event_name="ObjectCreated:Put",
        event_time_ms=event_ms,
        identified_at_ms=event_ms + 300,
        scored_at_ms=event_ms + 900,
        timings=Timings(120, 14, 9, 61, 600),
        lane="live",
        attempt=0,
        job_id=None,
        source=Position("s3.uploads", 3, 1042),
        task=Position("image.tasks.v1", 5, 977),
        worker="score-0",
        release="0.1.0",
        frames=1,
        publishable=True,
        renditions=(WHOLE,),
    )
