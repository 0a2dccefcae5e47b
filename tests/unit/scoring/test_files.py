"""Files, folders of anything and buckets through the engine; the report."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest_asyncio

from app.domain.policy import parse_policy
from app.errors import ObjectUnavailable
from app.inference.engine import Engine
from app.scoring.files import FileScore, FileScorer, sources
from app.scoring.report import Report, ReportFacts, model_notes, thumbnail
from app.scoring.verb import plain_score
from app.settings import EngineSettings, Settings
from tests.support.decoding.inline import InlineDecoding
from tests.support.memory.objects import MemoryObjectStore
from tests.support.pictures import encoded, jpeg, noise
from tests.support.toy_models import ToyModels

POLICY = parse_policy(
    """
policy: toy
version: "1"
description: greens are notified
rules:
  - id: green
    description: too much green
    action: notify
    severity: 10
    when: {model: tint, label: green, op: ">=", threshold: 0.5}
tests:
  - name: grey
    scores: {tint: {green: 0.1}}
    expect: none
    rules: []
""",
    "toy",
)


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    settings = Settings()
    made = Engine(ToyModels().registry, settings.limits, settings.inference, settings.engine, InlineDecoding())
    yield made
    await made.close()


async def run(
    engine: Engine,
    *targets: str,
    settings: Settings | None = None,
    store: MemoryObjectStore | None = None,
    models: frozenset[str] | None = None,
    keep_content: bool = False,
) -> list[FileScore]:
    scorer = FileScorer(
        engine, settings or Settings(), policy=POLICY, store=store, models=models, keep_content=keep_content
    )
    return [found async for found in scorer.run(sources(targets, store))]


async def test_a_folder_of_anything_is_walked_to_its_end(engine: Engine, tmp_path: Path) -> None:
    deep = tmp_path
    for name in "abcdefgh":
        deep = deep / name
        deep.mkdir()
    (deep / "deep.jpg").write_bytes(jpeg((0, 250, 0)))
    (tmp_path / "a.jpg").write_bytes(jpeg((250, 0, 0)))
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "text.jpg").write_text("no picture")
    os.mkfifo(tmp_path / "pipe")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(jpeg((1, 2, 3)))
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(40 << 30)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        found = await run(engine, str(tmp_path))
    outcomes = {Path(one.name).name: (one.outcome, one.reason) for one in found}
    assert outcomes == {
        "a.jpg": ("scored", ""),
        "broken.jpg": ("rejected", "unreadable"),
        "empty.jpg": ("rejected", "empty"),
        "huge.jpg": ("rejected", "too_many_bytes"),
        "linked.jpg": ("scored", ""),
        "loop": ("rejected", "not_a_file"),
        "pipe": ("rejected", "not_a_file"),
        "s": ("rejected", "not_a_file"),
        "text.jpg": ("rejected", "unsupported_format"),
        "\udcff.jpg": ("scored", ""),
        "deep.jpg": ("scored", ""),
    }


async def test_what_cannot_be_read_is_a_result(engine: Engine) -> None:
    # A regular file that answers every read with an error, to whoever asks.
    found = await run(engine, "/proc/self/mem", "/proc/self/no-such-file")
    assert [(one.outcome, one.reason) for one in found] == [("rejected", "unreadable")] * 2


async def test_results_keep_the_order_and_say_what_json_promises(engine: Engine, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02d}.jpg").write_bytes(jpeg((0, 8 * number, 0)))
    small = replace(Settings(), engine=EngineSettings(max_in_flight=4))
    found = await run(engine, str(tmp_path), settings=small)
    assert [Path(one.name).name for one in found] == [f"{number:02d}.jpg" for number in range(30)]
    row = plain_score(found[-1])
    assert set(row) >= {"path", "outcome", "reason", "sha256", "scores", "flags", "model_versions"}
    assert row["scores"]["tint"]["green"] > 0.8 and row["model_versions"]["tint"] == "1"
    assert row["flags"][0]["rule"] == "green" and row["action"] == "notify" and row["reasons"] == ["too_green"]
    assert plain_score(found[0])["flags"] == []


async def test_only_the_models_asked_for_are_run(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg((250, 0, 0)))
    (found,) = await run(engine, str(tmp_path / "a.jpg"), models=frozenset({"colour"}))
    assert [one.model for one in found.scores] == ["colour"]


async def test_objects_of_a_bucket_are_scored_and_failures_are_results(engine: Engine) -> None:
    store = MemoryObjectStore()
    store.put("b", "shop/1.jpg", jpeg((250, 0, 0)))
    store.put("b", "shop/2.jpg", jpeg((0, 250, 0)))
    store.put("b", "other.jpg", b"")
    store.failures = [ObjectUnavailable("cut off")]
    found = await run(engine, "s3://b/shop/", store=store)
    assert [one.name for one in found] == ["s3://b/shop/1.jpg", "s3://b/shop/2.jpg"]
    assert sorted((one.outcome, one.reason) for one in found) == [("rejected", "unreadable"), ("scored", "")]


async def test_the_report_is_one_page_that_escapes_what_it_is_told(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "<script>alert(1)<").mkdir()
    (tmp_path / "<script>alert(1)<" / "x.jpg").write_bytes(jpeg((250, 0, 0)))
    (tmp_path / "noise.png").write_bytes(encoded(noise(1)))
    (tmp_path / "bad.jpg").write_bytes(b"")
    report = Report()
    for one in await run(engine, str(tmp_path), keep_content=True):
        report.add(one, await thumbnail(engine.decoding, one.content) if one.content else None)
    models = model_notes(engine.registry.manifests)
    page = report.render(ReportFacts("t <b>", models, "CPU", "toy 1", 1.0, "today"))
    assert page.count("data:image/jpeg;base64,") == 2 and "t &lt;b&gt;" in page
    assert "<script>alert" not in page and "http" not in page.replace("http-equiv", "")
    assert "rejected: empty" in page and 'class="box"' in page
