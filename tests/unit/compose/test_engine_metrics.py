"""The engine's counts on /metrics: the same page as if each had been counted by its own name."""

from __future__ import annotations

from app.compose.processors import read_engine
from app.inference.engine import Engine
from app.pipeline.contents import Contents
from app.settings import EngineSettings, InferenceSettings, LimitSettings
from app.systems.prometheus import PrometheusMeters
from tests.support.decoding.inline import InlineDecoding
from tests.support.pictures import jpeg
from tests.support.toy_models import ToyModels


def _lines(meters: PrometheusMeters) -> list[str]:
    return sorted(meters.text().decode().splitlines())


async def test_the_page_is_that_of_counted_metrics() -> None:
    pool = InlineDecoding()
    engine = Engine(ToyModels().registry, LimitSettings(), InferenceSettings(), EngineSettings(), pool)
    contents = Contents(engine)
    read, counted = PrometheusMeters(), PrometheusMeters()
    read_engine(contents, read)
    try:
        await engine.score(jpeg((250, 0, 0)))
    finally:
        await engine.close()
    contents.counts.computed, contents.counts.joined, pool.counts.timed_out = 3, 2, 1

    for answer, count in {"computed": 3, "joined": 2, "promoted": 0}.items():
        counted.count("sightline_contents_total", count, answer=answer)
    assert len(engine.counts.batches) > 1
    for queue, batches in engine.counts.batches.items():
        counted.count("sightline_batches_total", batches, queue=queue)
        counted.count("sightline_batch_members_total", engine.counts.members[queue], queue=queue)
    counted.count("sightline_device_busy_seconds_total", engine.counts.busy_seconds)
    for what, count in {"started": 0, "crashed": 0, "timed_out": 1}.items():
        counted.count("sightline_decoder_processes_total", count, what=what)
    for queue, waiting in engine.waiting().items():
        counted.gauge("sightline_engine_waiting", waiting, queue=queue)
    assert _lines(read) == _lines(counted)
    assert 'sightline_contents_total{answer="computed"} 3.0' in _lines(read)


async def test_the_page_shows_the_count_of_the_moment() -> None:
    engine = Engine(ToyModels().registry, LimitSettings(), InferenceSettings(), EngineSettings(), InlineDecoding())
    contents, meters = Contents(engine), PrometheusMeters()
    read_engine(contents, meters)
    for promoted in (1, 5):
        contents.counts.promoted = promoted
        assert f'sightline_contents_total{{answer="promoted"}} {promoted}.0' in _lines(meters)
    await engine.close()
