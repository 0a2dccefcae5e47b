"""The bare loop: the engine of the score worker without Kafka. Fetch, digest, decode, infer; nothing else.

A process of its own, so that its memory and CPU are its own. It is told what to read by lines of JSON on its standard
input and answers with one line each: {"bucket", "objects"} are read from the object store, {"files"} from this machine,
"in_flight" of them at once (else as many as a worker has in hand).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from app.bench.rig import usage
from app.domain.images import Rejection
from app.errors import StartupRefused
from app.inference.active import load_active
from app.inference.engine import Engine
from app.ports.objects import FetchedObject, ObjectRef
from app.settings import Settings
from app.systems.s3.objects import S3ObjectStore


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
    credits = asyncio.Semaphore(asked.get("in_flight", settings.engine.max_in_flight))
    moments: list[float] = []
    began = time.monotonic()
    before = usage(process.pid).cpu_seconds

    async def fetched(key: str, etag: str, size_bytes: int) -> bytes:
        ref = ObjectRef(asked["bucket"], key, None, etag, size_bytes)
        found = await store.fetch(ref, max_bytes=settings.limits.max_bytes)
        if not isinstance(found, FetchedObject):
            raise StartupRefused(f"the bare loop cannot read {key}: {found.reason}")
        return found.body

    async def one(name: str, body: Awaitable[bytes] | None) -> None:
        try:
            # Files were written a moment ago and come from memory, quicker than a thread would be asked.
            content = Path(name).read_bytes() if body is None else await body
            hashlib.sha256(content).hexdigest()
            if isinstance(await engine.score(content), Rejection):
                raise StartupRefused(f"the bare loop cannot score {name}")
            moments.append(time.monotonic() - began)
        finally:
            credits.release()

    async with asyncio.TaskGroup() as group:
        for key, etag, size_bytes in asked.get("objects", ()):
            await credits.acquire()
            group.create_task(one(key, fetched(key, etag, size_bytes)))
        for path in asked.get("files", ()):
            await credits.acquire()
            group.create_task(one(path, None))
    after = usage(process.pid)
    return BareRound(tuple(sorted(moments)), after.cpu_seconds - before, after.rss_bytes)
