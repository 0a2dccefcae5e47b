"""One suite on the memory twin and on Redis: what the shared cache of contents promises."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from app.domain.contents import ContentRow
from app.errors import RedisUnavailable
from app.ports.index import Index, IndexEntry
from app.serving.ports import ContentCache
from app.serving.redis_contents import RedisContents
from app.systems.redis.index import RedisIndex
from app.systems.registry.avro import Codec
from schemas.records import Rendition
from tests.support.memory.contents import MemoryContents
from tests.support.memory.index import MemoryIndex
from tests.support.outcomes import four_models, prediction
from tests.support.redis_process import RedisProcess

CODEC = Codec()
SHA = "ab" * 32
ROW = ContentRow("jpeg", 640, 480, tuple(replace(one, cached=True) for one in four_models()))


@pytest_asyncio.fixture(params=["memory", "redis"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[ContentCache, Index]]:
    if request.param == "memory":
        twin = MemoryIndex()
        yield MemoryContents(twin), twin
        return
    server = RedisProcess(tmp_path)
    await server.start()
    index = RedisIndex(server.settings(), CODEC)
    cache = RedisContents(server.settings(), index)
    try:
        yield cache, index
    finally:
        await cache.close()
        await index.close()
        await server.close()


async def test_a_row_comes_back_as_it_was_put(pair: tuple[ContentCache, Index]) -> None:
    cache, _ = pair
    assert await cache.get(SHA) is None
    await cache.put(SHA, ROW)
    assert await cache.get(SHA) == ROW
    less = replace(ROW, scores=ROW.scores[:1])
    await cache.put(SHA, less)
    assert await cache.get(SHA) == less


async def test_what_was_never_put_is_the_index_s_latest_outcome(pair: tuple[ContentCache, Index]) -> None:
    cache, index = pair
    outcome = prediction(sha256=SHA, scores=ROW.scores, format="jpeg", width=640, height=480, frames=1)
    await index.apply([IndexEntry(outcome, CODEC.encode(outcome))])
    assert await cache.get(SHA) == ROW
    better = replace(ROW, width=641)
    await cache.put(SHA, better)
    assert await cache.get(SHA) == better


async def test_an_outcome_without_scores_tells_nothing(pair: tuple[ContentCache, Index]) -> None:
    cache, index = pair
    outcome = prediction(sha256=SHA, outcome="rejected", reason="undecodable", scores=(), format="jpeg")
    await index.apply([IndexEntry(outcome, CODEC.encode(outcome))])
    assert await cache.get(SHA) is None


async def test_an_outcome_of_an_older_release_is_computed_anew(
    pair: tuple[ContentCache, Index],
) -> None:
    cache, index = pair
    old = prediction(sha256=SHA, scores=ROW.scores, format="jpeg", width=640, height=480)
    await index.apply([IndexEntry(old, CODEC.encode(old))])
    assert await cache.get(SHA) is None
    looked_at = (Rendition(0, 0, 0, 1, 1, ""), Rendition(8, 0, 0, 1, 1, ""))
    now = replace(old, frames=9, truncated=True, renditions=looked_at, scored_at_ms=old.scored_at_ms + 1)
    await index.apply([IndexEntry(now, CODEC.encode(now))])
    assert await cache.get(SHA) == ContentRow("jpeg", 640, 480, ROW.scores, 9, True, looked_at)


async def test_a_redis_that_is_away_is_said_within_the_bound(tmp_path: Path) -> None:
    server = RedisProcess(tmp_path)
    await server.start()
    index = RedisIndex(server.settings(), CODEC)
    cache = RedisContents(server.settings(), index)
    try:
        await cache.put(SHA, ROW)
        server.freeze()
        began = time.monotonic()
        with pytest.raises(RedisUnavailable):
            await cache.get(SHA)
        assert time.monotonic() - began < 5
        server.thaw()
        assert await cache.get(SHA) == ROW
        await server.kill()
        with pytest.raises(RedisUnavailable, match="SIGHTLINE_REDIS_URL"):
            await cache.put(SHA, ROW)
    finally:
        await cache.close()
        await index.close()
        await server.close()
