"""Processors for tests of the streaming core: real claims, outputs and writes, without S3 or models."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agents.declaration import Wiring
from app.ports.processing import Processor, Tables
from app.ports.records import Claim, Completion, Output, SourceRecord, TableWrite
from app.topics import DEAD_LETTERS, PREDICTIONS
from schemas.records import DeadLetter, ImagePrediction, Position, Timings

NO_TIMINGS = Timings(0, 0, 0, 0, 0)


def prediction_of(record: SourceRecord, upload_id: str, *, cached: bool = False) -> ImagePrediction:
    """Return an outcome that names its upload and where it came from."""
    return ImagePrediction(
        upload_id=upload_id,
        bucket="bucket",
        key=upload_id,
        version_id=None,
        etag=None,
        size_bytes=None,
        sha256=None,
        outcome="scored",
        reason="",
        detail="",
        superseded=False,
        cached=cached,
        format="",
        width=0,
        height=0,
        scores=(),
        reasons=(),
        previous=(),
        dialect="test",
        sequencer=None,
        order_key="",
        event_name="",
        event_time_ms=0,
        identified_at_ms=0,
        scored_at_ms=0,
        timings=NO_TIMINGS,
        lane="live",
        attempt=0,
        job_id=None,
        source=record.position,
        task=Position("", 0, 0),
        worker="",
        release="",
    )


@dataclass(slots=True)
class EchoProcessor:
    """Publishes one prediction for each record, whose value is the upload id. Finishes out of order.

    With `tables` it claims the upload and remembers it in `contents`, as score does. A value that begins with `poison`
    becomes a dead letter. One that begins with `held` waits until one that begins with `open` came. One that begins
    with `raises` raises.
    """

    tables: Tables | None = None
    longest_seconds: float = 0.01
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def process(self, record: SourceRecord) -> Completion:
        if record.value is None or record.value.startswith(b"poison"):
            return Completion((Output(DEAD_LETTERS, str(record.position).encode(), _letter(record)),), dead_letters=1)
        upload_id = record.value.decode()
        if upload_id.startswith("open"):
            self.opened.set()
        elif upload_id.startswith("held"):
            await self.opened.wait()
        elif upload_id.startswith("raises"):
            raise ZeroDivisionError(upload_id)
        if self.longest_seconds:
            await asyncio.sleep(random.random() * self.longest_seconds)
        if self.tables is None:
            return Completion((Output(PREDICTIONS, record.value, prediction_of(record, upload_id)),))
        known = self.tables.get("contents", record.partition, record.value) is not None
        return Completion(
            (Output(PREDICTIONS, record.value, prediction_of(record, upload_id, cached=known)),),
            claim=Claim(upload_id, 0),
            writes=(TableWrite("contents", record.value, b"scores"),),
        )


def _letter(record: SourceRecord) -> DeadLetter:
    return DeadLetter(
        letter_id=f"{record.topic}/{record.partition}/{record.offset}",
        source=record.position,
        part=-1,
        source_timestamp_ms=record.timestamp_ms,
        agent="test",
        kind="poison",
        reason="test",
        detail="",
        attempts=1,
        upload_id=None,
        bucket=None,
        object_key=None,
        key=record.key,
        value=record.value,
        value_bytes=len(record.value or b""),
        first_seen_ms=0,
        dead_at_ms=0,
        job_id=None,
    )


@asynccontextmanager
async def echo(wiring: Wiring) -> AsyncIterator[Processor]:
    """Build the processor of a test worker."""
    yield EchoProcessor(wiring.tables)


__all__ = ["EchoProcessor", "echo", "prediction_of"]
