"""POST /v1/score by HTTP, in process: each kind of body, each status."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from app.api.application import build_application
from app.api.dependencies import ApiParts
from app.api.pictures import PictureParts
from app.api.problems import PROBLEM_JSON
from app.domain.filters import UploadFilter
from app.errors import ManifestError, ObjectUnavailable, StoreUnavailable
from app.inference.registry import Registry
from app.ports.objects import ObjectMissing
from app.serving.admission import BodyRoom
from app.serving.previews import Previews
from app.serving.references import ReferencedObjects
from app.serving.scoring import Scoring
from app.settings import ApiSettings, S3Settings, Settings
from app.systems.clock import SystemClock
from tests.support.api.in_process import bearer, client_of, give_key, memory_parts
from tests.support.api.scoring import POLICY
from tests.support.decoding.inline import InlineDecoding
from tests.support.eventually import eventually
from tests.support.memory.contents import MemoryContents
from tests.support.memory.index import MemoryIndex
from tests.support.memory.objects import MemoryObjectStore
from tests.support.pictures import encoded, jpeg, noise
from tests.support.streaming.counted import CountedMeters
from tests.support.toy_models import ToyModels

GREEN = jpeg((0, 250, 0))
BYTES = {"Content-Type": "application/octet-stream"}


@dataclass(slots=True)
class Service:
    """The application on toys, and a client of it."""

    client: httpx.AsyncClient
    app: FastAPI
    parts: ApiParts
    models: ToyModels
    store: MemoryObjectStore
    may_load: threading.Event

    @property
    def pictures(self) -> PictureParts:
        assert self.parts.pictures is not None
        return self.parts.pictures

    async def ready(self) -> None:
        self.may_load.set()
        await eventually(lambda: self.pictures.scoring.state != "loading")

    async def post(self, body: Any = GREEN, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        return await self.client.post("/v1/score", content=body, headers={**BYTES, **(headers or {})}, **more)

    async def reference(self, **named: Any) -> httpx.Response:
        return await self.client.post("/v1/score", json=named)


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    s3 = S3Settings(buckets=("images", "missing"), excluded_prefixes=("private/",))
    settings = Settings(s3=s3, api=ApiSettings(max_body_bytes=20_000, score_in_flight=2))
    models, store, index = ToyModels(), MemoryObjectStore(), MemoryIndex()
    may_load = threading.Event()

    def load(_: Settings) -> tuple[Registry, Any]:
        assert may_load.wait(20)
        return models.registry, POLICY

    clock, meters = SystemClock(), CountedMeters()
    scoring = Scoring(settings, InlineDecoding(), MemoryContents(index), clock, meters, load)
    store.create_bucket("images")
    parts = memory_parts(settings, clock)
    parts.pictures = PictureParts(
        scoring=scoring,
        bodies=BodyRoom(settings.api.body_bytes_in_flight),
        objects=ReferencedObjects(store, UploadFilter.of(settings), 30_000),
        previews=Previews(store, InlineDecoding(), settings, clock, meters),
    )
    app = build_application(parts)
    scoring.start()
    async with client_of(app) as client:
        client.headers.update(bearer(give_key(parts, ["score"])[0]))
        yield Service(client, app, parts, models, store, may_load)
    may_load.set()
    if models.colour.hold is not None:
        models.colour.hold.set()
    await scoring.close()


def problem_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM_JSON), answer.text
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    return body


async def test_a_raw_body_is_scored(service: Service) -> None:
    await service.ready()
    for kind in ("application/octet-stream", "image/jpeg", "IMAGE/anything; q=1"):
        answer = await service.post(headers={"Content-Type": kind})
        assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["outcome"] == "scored" and found["cached"] is True
    assert (found["format"], found["width"], found["height"], found["size_bytes"]) == ("jpeg", 64, 48, len(GREEN))
    assert found["scores"]["tint"]["green"] > 0.9 and found["models"]["tint"] == "1"
    assert found["reasons"] == ["too_green"] and found["skipped"].keys() == {"detail"}
    assert found["action"] == "notify" and found["publishable"] is True
    whole = {"frame": 0, "left": 0, "top": 0, "right": 1, "bottom": 1, "ground": ""}
    assert (found["frames"], found["truncated"], found["renditions"]) == (1, False, [whole])
    assert found["rendition_of"] == {}
    (rule,) = found["rules"]
    assert (rule["rule"], rule["severity"]) == ("green", 10) and rule["conditions"][0]["label"] == "green"
    assert set(found["timings_ms"]) == {"queued", "decode", "infer", "total"}


async def test_a_form_with_one_file_is_scored(service: Service) -> None:
    await service.ready()
    answer = await service.client.post("/v1/score", files={"file": ("a.jpg", GREEN, "image/jpeg")})
    assert answer.status_code == 200 and answer.json()["size_bytes"] == len(GREEN)


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"picture": ("a.jpg", GREEN)}},
        {"files": [("file", ("a.jpg", GREEN)), ("file", ("b.jpg", GREEN))]},
        {"files": {"file": ("a.jpg", GREEN)}, "data": {"more": "x"}},
        {"content": b"no form", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"no form", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
async def test_any_other_form_is_refused(service: Service, form: dict[str, Any]) -> None:
    await service.ready()
    problem_of(await service.client.post("/v1/score", **form), 422, "invalid_request")


async def test_an_object_is_scored_by_reference(service: Service) -> None:
    await service.ready()
    ref = service.store.put("images", "shop/a.jpg", GREEN)
    for named in ({}, {"etag": f'"{str(ref.etag).upper()}"'}, {"version_id": None}):
        answer = await service.reference(bucket="images", key="shop/a.jpg", **named)
        assert answer.status_code == 200, answer.text


async def test_references_fail_by_name(service: Service) -> None:
    await service.ready()
    problem_of(await service.reference(bucket="images", key="nothing.jpg"), 404, "no_such_object")
    service.store.put("images", "a.jpg", GREEN)
    problem_of(await service.reference(bucket="images", key="a.jpg", etag="0" * 32), 404, "no_such_object")
    problem_of(await service.reference(bucket="images", key="a.jpg", etag="e1\nx-evil: 1"), 404, "no_such_object")
    problem_of(await service.reference(bucket="images", key="a.jpg", version_id="v\r\n1"), 404, "no_such_object")
    fetches = len(service.store.fetches)
    problem_of(await service.reference(bucket="secrets", key="a.jpg"), 403, "bucket_not_served")
    problem_of(await service.reference(bucket="images", key="private/a.jpg"), 403, "bucket_not_served")
    assert len(service.store.fetches) == fetches, "what is not ours is not even asked for"
    service.store.put("images", "large.jpg", bytes(40_000))
    problem_of(await service.reference(bucket="images", key="large.jpg"), 422, "too_many_bytes")
    for reason in ("archived", "forbidden"):
        service.store.failures.append(ObjectMissing(reason, "so it is"))
        problem_of(await service.reference(bucket="images", key="a.jpg"), 422, reason)
    for error in (StoreUnavailable("away"), ObjectUnavailable("500")):
        service.store.failures.append(error)
        answer = await service.reference(bucket="images", key="a.jpg")
        problem_of(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nonsense",
        '{"bucket": "images"}',
        '{"bucket": "", "key": "a"}',
        '{"bucket": "a/../b", "key": "a"}',
        '{"bucket": "images", "key": ""}',
        '{"bucket": "images", "key": 1}',
        '{"bucket": "images", "key": "a", "more": 1}',
        '{"bucket": "images", "key": "\\ud800"}',
    ],
)
async def test_a_reference_that_is_none_is_refused(service: Service, text: str) -> None:
    await service.ready()
    answer = await service.post(text.encode(), {"Content-Type": "application/json"})
    problem_of(answer, 422, "invalid_request")


async def test_pictures_that_are_none_get_the_streams_reason(service: Service) -> None:
    await service.ready()
    body = problem_of(await service.post(GREEN[:20]), 422, "undecodable")
    assert body["publishable"] is False
    assert body["action"] == "review" and body["outcome"] == "rejected" and body["format"] == "jpeg"
    problem_of(await service.post(b""), 422, "empty")
    problem_of(await service.post(b"text"), 422, "unsupported_format")


async def test_other_kinds_of_bodies_are_refused(service: Service) -> None:
    await service.ready()
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        problem_of(await service.post(headers={"Content-Type": kind}), 415, "unsupported_media_type")


async def test_a_body_that_announces_too_much_is_refused_unread(service: Service) -> None:
    await service.ready()
    read = False

    async def unread() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield bytes(20_001)

    answer = await service.post(unread(), {"Content-Length": "20001"})
    problem_of(answer, 413, "body_too_large")
    assert not read


async def test_a_body_of_unknown_length_is_read_to_the_limit(service: Service) -> None:
    await service.ready()
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10_000_000:
            sent += 5_000
            yield bytes(5_000)

    problem_of(await service.post(endless()), 413, "body_too_large")
    large = {"file": ("a.jpg", bytes(21_000))}
    problem_of(await service.client.post("/v1/score", files=large), 413, "body_too_large")
    problem_of(await service.reference(bucket="images", key="a" * 20_000), 413, "body_too_large")


async def test_a_deadline_that_passes_is_said(service: Service) -> None:
    await service.ready()
    service.models.colour.hold = threading.Event()
    problem_of(await service.post(headers={"X-Deadline-Ms": "40"}), 504, "deadline_exceeded")

    async def slow() -> AsyncIterator[bytes]:
        yield GREEN
        await asyncio.Event().wait()

    problem_of(await service.post(slow(), headers={"X-Deadline-Ms": "40"}), 504, "deadline_exceeded")


@pytest.mark.parametrize("text", ["0", "-1", "soon", "600001"])
async def test_a_deadline_that_is_none_is_refused(service: Service, text: str) -> None:
    await service.ready()
    problem_of(await service.post(headers={"X-Deadline-Ms": text}), 422, "invalid_request")


async def test_overload_is_said_at_once_with_when_to_come_again(service: Service) -> None:
    await service.ready()
    service.models.colour.hold = threading.Event()
    callers = [asyncio.create_task(service.post(encoded(noise(seed)))) for seed in range(2)]
    await eventually(lambda: service.models.colour.entered > 0)
    began = time.monotonic()

    async def refused() -> bool:
        answer = await service.post(encoded(noise(7)), {"X-Deadline-Ms": "300"})
        if answer.status_code != 429:
            return False
        problem_of(answer, 429, "overloaded")
        return int(answer.headers["retry-after"]) >= 1

    await eventually(refused)
    assert time.monotonic() - began < 5
    service.models.colour.hold.set()
    assert [answer.status_code for answer in await asyncio.gather(*callers)] == [200, 200]


async def test_no_room_for_a_body_is_overload(service: Service) -> None:
    await service.ready()
    service.parts.pictures = replace(service.pictures, bodies=BodyRoom(len(GREEN)))
    room = await service.pictures.bodies.take(len(GREEN), None)
    answer = await service.post(headers={"X-Deadline-Ms": "30"})
    problem_of(answer, 429, "overloaded")
    room.release()
    assert (await service.post()).status_code == 200
    assert (await service.post()).status_code == 200, "the room was given back"


async def test_models_that_load_hold_up_nothing_else(service: Service) -> None:
    answer = await service.post()
    problem_of(answer, 503, "models_loading")
    assert int(answer.headers["retry-after"]) >= 1
    assert (await service.client.get("/healthz")).status_code == 200
    service.parts.checks = [service.pictures.check]
    not_ready = await service.client.get("/readyz")
    assert not_ready.status_code == 503 and not_ready.json()["checks"][0]["name"] == "models"
    await service.ready()
    assert (await service.client.get("/readyz")).json()["checks"][0]["detail"] == "colour@1, tint@1, detail@1"
    assert (await service.post()).status_code == 200


async def test_scoring_that_is_switched_off_says_so(service: Service) -> None:
    await service.ready()
    off = replace(service.parts.settings, api=ApiSettings(score=False))
    scoring = Scoring(off, InlineDecoding(), MemoryContents(MemoryIndex()), SystemClock(), CountedMeters())
    scoring.start()
    service.parts.pictures = replace(service.pictures, scoring=scoring)
    answer = await service.post()
    problem_of(answer, 503, "scoring_off")
    assert "retry-after" not in answer.headers and await scoring.ready() == "switched off"
    await scoring.close()
    service.parts.pictures = None
    problem_of(await service.post(), 503, "scoring_off")


async def test_models_that_cannot_be_loaded_or_broke_say_so(service: Service) -> None:
    await service.ready()

    def load(_: Settings) -> tuple[Registry, Any]:
        raise ManifestError("models/x is broken")

    broken = Scoring(
        service.parts.settings, InlineDecoding(), MemoryContents(MemoryIndex()), SystemClock(), CountedMeters(), load
    )
    broken.start()
    await eventually(lambda: broken.state == "failed")
    working = service.pictures
    service.parts.pictures = replace(working, scoring=broken)
    problem_of(await service.post(), 503, "models_failed")
    await broken.close()
    service.parts.pictures = working
    service.models.colour.error = RuntimeError("out of memory")
    problem_of(await service.post(), 500, "internal_error")
    problem_of(await service.post(), 503, "models_failed")


async def test_who_may_not_score_is_refused(service: Service) -> None:
    problem_of(await service.post(headers={"Authorization": "Bearer slk_no_body"}), 401, "unauthorized")
    reader = bearer(give_key(service.parts, ["read", "admin"])[0])
    problem_of(await service.post(headers=reader), 403, "forbidden")


@pytest.fixture
def document(service: Service) -> Iterator[dict[str, Any]]:
    yield service.app.openapi()["paths"]["/v1/score"]["post"]


def test_the_document_tells_every_body_and_status(document: dict[str, Any]) -> None:
    assert set(document["requestBody"]["content"]) == {
        "image/*",
        "application/octet-stream",
        "multipart/form-data",
        "application/json",
    }
    assert document["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Score")
    expected = {"200", "401", "403", "404", "408", "413", "415", "422", "429", "503", "504"}
    assert expected <= set(document["responses"])
    for status in expected - {"200"}:
        assert set(document["responses"][status]["content"]) == {PROBLEM_JSON}
    assert [one["name"] for one in document["parameters"]] == ["X-Deadline-Ms"]
