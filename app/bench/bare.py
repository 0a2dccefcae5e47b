"""The bare loop: the engine of the score worker without Kafka. Fetch, digest, decode, infer; nothing else.

A process of its own, so that its memory and CPU are its own. It is told what to read by lines of JSON on its standard
input and answers with one line each.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import psutil

from app.adapters.s3 import S3ObjectStore
from app.domain.images import Rejection
from app.errors import StartupRefused
from app.inference.active import load_active
from app.inference.engine import Engine
from app.ports import FetchedObject, ObjectRef
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class BareRound:
    """One round: when each image was done (seconds, sorted), and the CPU time of the process."""

    moments: tuple[float, ...]
    cpu_seconds: float
    rss_bytes: int


async def serve(settings: Settings) -> None:
    """Answer rounds until standard input ends."""
    registry = await asyncio.to_thread(load_active, settings.inference)
    engine = Engine(registry, settings.limits, settings.inference, settings.engine)
    store = S3ObjectStore(settings.s3)
    try:
        print(json.dumps({"ready": True, "models": [m.id for m in registry.manifests]}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            done = await _round(settings, engine, store, json.loads(line))
            body = {"moments": done.moments, "cpu_seconds": done.cpu_seconds, "rss_bytes": done.rss_bytes}
            print(json.dumps(body), flush=True)
    finally:
        await store.close()
        await engine.close()


async def _round(settings: Settings, engine: Engine, store: S3ObjectStore, asked: dict[str, Any]) -> BareRound:
    process = psutil.Process()
    credits = asyncio.Semaphore(settings.engine.max_in_flight)
    moments: list[float] = []
    began = time.monotonic()
    before = process.cpu_times()

    async def one(key: str, etag: str, size_bytes: int) -> None:
        try:
            ref = ObjectRef(asked["bucket"], key, None, etag, size_bytes)
            fetched = await store.fetch(ref, max_bytes=settings.limits.max_bytes)
            if not isinstance(fetched, FetchedObject):
                raise StartupRefused(f"the bare loop cannot read {key}: {fetched.reason}")
            hashlib.sha256(fetched.body).hexdigest()
            if isinstance(await engine.score(fetched.body), Rejection):
                raise StartupRefused(f"the bare loop cannot score {key}")
            moments.append(time.monotonic() - began)
        finally:
            credits.release()

    async with asyncio.TaskGroup() as group:
        for key, etag, size_bytes in asked["objects"]:
            await credits.acquire()
            group.create_task(one(key, etag, size_bytes))
    after = process.cpu_times()
    cpu_seconds = after.user + after.system - before.user - before.system
    return BareRound(tuple(sorted(moments)), cpu_seconds, process.memory_info().rss)
