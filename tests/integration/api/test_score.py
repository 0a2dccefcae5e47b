"""POST /v1/score with the models that ship gives what `./sightline score` gives for the same file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.api.application import build_application
from app.api.pictures import PictureParts
from app.domain.filters import UploadFilter
from app.inference.decoding.pool import DecodePool
from app.serving.admission import BodyRoom
from app.serving.previews import Previews
from app.serving.references import ReferencedObjects
from app.serving.scoring import Scoring
from app.settings import ROOT, Settings
from app.systems.clock import SystemClock
from tests.support.api.in_process import bearer, client_of, give_key, memory_parts
from tests.support.eventually import eventually
from tests.support.memory.contents import MemoryContents
from tests.support.memory.objects import MemoryObjectStore
from tests.support.pictures import encoded
from tests.support.verbs import clean_environment

# Loads the models twice.
pytestmark = pytest.mark.timeout(240)


def pictures() -> dict[str, bytes]:
    from skimage import data

    cat = Image.fromarray(data.cat())
    return {
        "astronaut.jpg": encoded(Image.fromarray(data.astronaut()), "JPEG", quality=92),
        "cat.webp": encoded(cat, "WEBP", quality=80),
        "page.png": encoded(Image.fromarray(data.page()), "PNG"),
        "small.jpg": encoded(cat.resize((90, 60)), "JPEG", quality=20),
        "cut.jpg": encoded(cat, "JPEG", quality=92)[:300],
        "text.jpg": b"no picture at all",
    }


def by_file(folder: Path) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "app", "score", str(folder), "--json", "--quiet"],
        cwd=ROOT,
        env=clean_environment({"SIGHTLINE_STACK_VAR_DIR": "/nonexistent"}),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return {Path(row["path"]).name: row for row in map(json.loads, done.stdout.splitlines())}


async def test_http_and_files_agree(tmp_path: Path) -> None:
    bodies = pictures()
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
    expected = by_file(tmp_path)

    settings, clock, store = Settings(), SystemClock(), MemoryObjectStore()
    parts = memory_parts(settings, clock)
    decoding = DecodePool(settings.limits, settings.inference)
    scoring = Scoring(settings, decoding, MemoryContents(parts.index), clock, parts.meters)
    parts.pictures = PictureParts(
        scoring=scoring,
        bodies=BodyRoom(settings.api.body_bytes_in_flight),
        objects=ReferencedObjects(store, UploadFilter.of(settings), settings.limits.max_bytes),
        previews=Previews(store, decoding, settings, clock, parts.meters),
    )
    scoring.start()
    try:
        await eventually(lambda: scoring.state == "ready", 120)
        async with client_of(build_application(parts)) as client:
            client.headers.update(bearer(give_key(parts, ["score"])[0]))
            for name, body in bodies.items():
                store.put("images", name, body)
                sent = await client.post("/v1/score", content=body, headers={"Content-Type": "image/*"})
                again = await client.post("/v1/score", json={"bucket": "images", "key": name})
                _same(name, expected[name], sent.status_code, sent.json())
                _same(name, expected[name], again.status_code, again.json())
    finally:
        await parts.pictures.previews.close()
        await scoring.close()
        await decoding.close()


def _same(name: str, row: dict[str, Any], status: int, found: dict[str, Any]) -> None:
    if row["outcome"] == "rejected":
        assert (status, found["code"], found["action"]) == (422, row["reason"], row["action"]), name
        return
    assert status == 200, found
    for same in ("sha256", "format", "width", "height", "skipped", "reasons", "action"):
        assert found[same] == row[same], (name, same)
    assert found["models"] == row["model_versions"]
    assert [rule["rule"] for rule in found["rules"]] == [flag["rule"] for flag in row["flags"]]
    assert set(found["scores"]) == set(row["scores"])
    for model, labels in row["scores"].items():
        assert found["scores"][model] == pytest.approx(labels, abs=1e-4), (name, model)
