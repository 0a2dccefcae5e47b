"""Reading `control.v1` whole: the latest record of each kind and name."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from app.errors import Poison
from app.ports.records import RecordCodec, SourceRecord
from app.ports.topics import TopicLog
from app.topics import CONTROL
from schemas.records import ControlRecord


def control_key(kind: str, name: str) -> bytes:
    """Return the Kafka key under which the latest record of `kind` and `name` is kept."""
    return f"{kind}/{name}".encode()


async def control_records(
    log: TopicLog, codec: RecordCodec, *kinds: str
) -> AsyncGenerator[tuple[SourceRecord, ControlRecord], None]:
    """Yield each record of `kinds` (all without any) in order, with where it lies; what cannot be read is left out."""
    async with aclosing(log.scan(CONTROL)) as records:
        async for record in records:
            try:
                control = codec.decode_as(record.value, ControlRecord)
            except Poison:
                continue  # one foreign record must not hide all the others
            if not kinds or control.kind in kinds:
                yield record, control


async def read_control(log: TopicLog, codec: RecordCodec, *kinds: str) -> dict[tuple[str, str], ControlRecord]:
    """Return the latest records of `kinds` (all without any) by kind and name; what cannot be read is left out."""
    async with aclosing(control_records(log, codec, *kinds)) as records:
        return {(control.kind, control.name): control async for _, control in records}
