"""The engine with the models that ship: real photographs, the same scores by every way, hostile files among them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from app.domain.images import Rejection
from app.inference.engine import Engine, EngineScores, smallest_side
from app.inference.loading import load_registry
from app.inference.manifest import Kind
from app.inference.model_input import Picture
from app.inference.preprocessing import prepare
from app.inference.registry import InferenceOptions, Registry
from app.settings import ROOT, Settings
from tests.support.devices import tolerance
from tests.support.pictures import encoded, noise


def photographs() -> list[bytes]:
    """JPEGs of photographs that scikit-image ships inside its wheel."""
    from skimage import data

    return [encoded(Image.fromarray(picture), "JPEG", quality=92) for picture in (data.astronaut(), data.cat())]


@pytest.fixture(scope="module")
def registry(device: str) -> Iterator[Registry]:
    settings = Settings()
    yield load_registry(settings.inference.models_dir, None, InferenceOptions(device=device, threads=2))


@pytest_asyncio.fixture
async def engine(registry: Registry) -> AsyncIterator[Engine]:
    settings = Settings()
    made = Engine(registry, settings.limits, settings.inference, settings.engine)
    yield made
    await made.close()


async def scored(engine: Engine, content: bytes | None, **options: Any) -> EngineScores:
    found = await engine.score(content, **options)
    assert isinstance(found, EngineScores), found
    return found


def values(found: EngineScores) -> dict[str, list[float]]:
    return {name: [label.value for label in one.labels] for name, one in found.scores.items()}


async def test_every_active_model_answers_on_a_photograph(engine: Engine, registry: Registry) -> None:
    found = await scored(engine, photographs()[0])
    assert set(found.scores) == {manifest.name for manifest in registry.manifests}
    for one in found.scores.values():
        manifest = registry.manifest(one.model)
        assert tuple(label.label for label in one.labels) == manifest.labels
        assert all(0 <= label.value <= 1 for label in one.labels)
        assert one.version == manifest.version and one.preprocessing
    assert found.scores["nsfw"].labels[0].value < 0.5, "an astronaut and a cat are no nudes"


async def test_alone_or_in_a_full_batch_a_picture_gets_the_same_scores(engine: Engine) -> None:
    first, second = photographs()
    alone = values(await scored(engine, first))
    together = await asyncio.gather(*(engine.score(one) for one in [first, second] * 12))
    for found in together[::2]:
        assert isinstance(found, EngineScores)
        for name, row in values(found).items():
            assert row == pytest.approx(alone[name], abs=0.02), name


async def test_the_engine_says_what_its_parts_say(engine: Engine, registry: Registry, device: str) -> None:
    from app.inference.decoding.decoder import Decoder
    from app.inference.decoding.pictures import DecodedImage, DecodeOptions
    from app.inference.decoding.pool import image_limits

    content = photographs()[1]
    decoder = Decoder(image_limits(Settings().limits), DecodeOptions(2 * smallest_side(registry.manifests), 1))
    decoded = decoder.decode(content)
    assert isinstance(decoded, DecodedImage)
    header = decoded.header
    picture = Picture(decoded.frames[0].pixels, header.width, header.height)
    found = values(await scored(engine, content))
    apart = tolerance(device, 1e-5)
    for network in registry.networks():
        spec = network.manifest.input
        assert spec is not None
        output = network.infer([prepare(picture, spec)])
        assert found[network.manifest.name] == pytest.approx([float(v) for v in output.scores[0]], abs=apart)
        for head in registry.heads_of(network.manifest.name):
            assert output.embeddings is not None
            expected = [float(v) for v in head.infer(output.embeddings).scores[0]]
            assert found[head.manifest.name] == pytest.approx(expected, abs=apart)


async def test_heads_say_the_same_from_the_stored_embedding(engine: Engine, registry: Registry, device: str) -> None:
    fresh = await scored(engine, photographs()[0])
    heads = frozenset(manifest.name for manifest in registry.manifests if manifest.kind is Kind.HEAD)
    stored = await scored(engine, None, wanted=heads, embeddings=fresh.embeddings)
    assert heads and not stored.missing
    for name in heads:
        assert values(stored)[name] == pytest.approx(values(fresh)[name], abs=tolerance(device, 1e-5))


async def test_hostile_files_among_photographs_change_nothing(engine: Engine) -> None:
    content = photographs()[0]
    before = values(await scored(engine, content))
    bad = [b"", b"x" * 1000, content[:300], b"\xff\xd8\xff" * 999, encoded(noise(1), "AVIF")[:200]]
    results = await asyncio.gather(
        *(engine.score(one) for pair in zip(bad, [content] * 5, strict=True) for one in pair)
    )
    for rejected, found in zip(results[::2], results[1::2], strict=True):
        assert isinstance(rejected, Rejection)
        assert isinstance(found, EngineScores)
        for name, row in values(found).items():
            assert row == pytest.approx(before[name], abs=0.02)


async def test_half_a_photograph_is_scored_and_says_so(engine: Engine) -> None:
    content = photographs()[0]
    found = await scored(engine, content[: len(content) // 2])
    assert found.truncated and not (await scored(engine, content)).truncated


async def test_the_format_hardly_matters(engine: Engine) -> None:
    picture = Image.open(io.BytesIO(photographs()[1]))
    base = values(await scored(engine, encoded(picture, "PNG")))
    for kind in ("BMP", "TIFF", "WEBP", "HEIF"):
        other = values(await scored(engine, encoded(picture, kind, **({"quality": 95} if kind in ("WEBP",) else {}))))
        assert other["nsfw"] == pytest.approx(base["nsfw"], abs=0.05), kind


def run_cli(*arguments: str, device: str = "cpu") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", "score", *arguments]
    environment = {**os.environ, "SIGHTLINE_INFERENCE_DEVICE": device}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_the_command_line_prints_one_object_a_line_and_writes_the_report(tmp_path: Path, device: str) -> None:
    (tmp_path / "cat.jpg").write_bytes(photographs()[1])
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    report = tmp_path / "out.html"
    files = (str(tmp_path / "cat.jpg"), str(tmp_path / "bad.jpg"))
    done = run_cli(*files, "--json", "--report", str(report), device=device)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["outcome"], row["reason"]) for row in rows] == [("scored", ""), ("rejected", "unsupported_format")]
    assert rows[0]["scores"]["nsfw"]["nsfw"] < 0.5 and rows[0]["model_versions"]["nsfw"]
    assert rows[0]["path"].endswith("cat.jpg") and len(rows[0]["sha256"]) == 64 and rows[0]["flags"] == []
    assert report.read_text().count("data:image/jpeg;base64,") == 1


def test_bad_usage_is_exit_code_2_with_a_sentence(tmp_path: Path) -> None:
    done = run_cli(str(tmp_path / "nowhere"))
    assert done.returncode == 2 and "does not exist" in done.stderr
    (tmp_path / "a.jpg").write_bytes(b"x")
    done = run_cli(str(tmp_path / "a.jpg"), "--model", "stranger")
    assert done.returncode == 2 and "no model stranger" in done.stderr
