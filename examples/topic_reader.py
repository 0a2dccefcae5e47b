"""Any topic as lines of JSON, with aiokafka and fastavro and nothing of this project but its schemas.

    python examples/topic_reader.py 127.0.0.1:9092 moderation.decisions.v1

Prints what the topic holds, then each new record, until it is interrupted.
"""

import asyncio
import functools
import io
import json
import sys
from pathlib import Path

import fastavro
from aiokafka import AIOKafkaConsumer

SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"


@functools.cache
def _schema(schema_id: int) -> dict:
    lines = (SCHEMAS / "ids.lock").read_text().splitlines()
    name = next(line.split()[1] for line in lines if line.split()[:1] == [str(schema_id)])
    return json.loads((SCHEMAS / f"{name}.avsc").read_text())


async def _read(bootstrap: str, topic: str) -> None:
    options = {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, **options) as records:
        async for record in records:  # on the wire: byte 0, schema id, Avro body
            schema_id, body = int.from_bytes(record.value[1:5], "big"), io.BytesIO(record.value[5:])
            print(json.dumps(fastavro.schemaless_reader(body, _schema(schema_id), None), default=str), flush=True)


asyncio.run(_read(*sys.argv[1:3]))
