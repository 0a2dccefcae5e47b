"""A moderation service in one page, with aiokafka and fastavro and nothing of this project but its schemas.

    python examples/moderation_consumer.py 127.0.0.1:9092 image.flagged.v1

After a crash a flag may come again: its `flag_id` tells.
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


async def _consume(bootstrap: str, topic: str) -> None:
    options = {"group_id": "moderation-example", "isolation_level": "read_committed", "auto_offset_reset": "earliest"}
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, enable_auto_commit=False, **options) as flags:
        async for record in flags:  # on the wire: byte 0, schema id, Avro body
            schema_id, body = int.from_bytes(record.value[1:5], "big"), io.BytesIO(record.value[5:])
            flag = fastavro.schemaless_reader(body, _schema(schema_id), None)
            why = "; ".join(rule["explanation"] for rule in flag["rules"]) or f"was {flag['previous_action']}"
            print(f"{flag['state']} {flag['action']}: s3://{flag['bucket']}/{flag['key']}: {why}", flush=True)
            await flags.commit()


asyncio.run(_consume(*sys.argv[1:3]))
