"""GET /v1/images and its neighbours, in process on memory twins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from app.api.application import build_application
from app.api.dependencies import ApiParts
from app.ports.index import IndexEntry
from app.systems.clock import SystemClock
from schemas.records import LabelScore, ModelScores, Rendition, RuleCondition, RuleMatch
from tests.support.api.in_process import bearer, client_of, give_key, memory_parts
from tests.support.memory.index import MemoryIndex
from tests.support.outcomes import decision_of, flag_of, prediction, removal, task_of

PLACE = "/v1/images/images/shop/photo-0001.jpg"


@pytest.fixture
def parts() -> ApiParts:
    return memory_parts(clock=SystemClock())


@pytest_asyncio.fixture
async def client(parts: ApiParts) -> AsyncIterator[httpx.AsyncClient]:
    token, _ = give_key(parts, ["read"])
    async with client_of(build_application(parts)) as client:
        client.headers.update(bearer(token))
        yield client


async def put(parts: ApiParts, *records: object) -> None:
    await parts.index.apply([IndexEntry(one, parts.codec.encode(one)) for one in records])  # type: ignore[arg-type]


async def test_an_image_is_told_with_scores_flag_and_decision(parts: ApiParts, client: httpx.AsyncClient) -> None:
    outcome = prediction(reasons=("quality.blurry",))
    flag = flag_of(outcome)
    await put(parts, outcome, flag, decision_of(flag))
    answer = await client.get(PLACE)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["outcome"], told["sha256"], told["reasons"]) == ("scored", outcome.sha256, ["quality.blurry"])
    assert told["scores"]["nsfw"] == {"nsfw": 0.01} and told["models"]["nsfw"] == "1"
    assert told["flag"]["rules"][0]["conditions"][0]["threshold"] == 0.85
    assert told["decision"]["decision"] == "reject" and told["pending"] is None
    assert told["times"]["total_ms"] == outcome.timings.total_ms


async def test_an_image_says_whether_it_may_be_published(parts: ApiParts, client: httpx.AsyncClient) -> None:
    outcome = prediction(publishable=True)
    flag = flag_of(outcome)
    await put(parts, outcome)
    assert (await client.get(PLACE)).json()["publishable"] is True
    await put(parts, flag)
    assert (await client.get(PLACE)).json()["publishable"] is False
    await put(parts, decision_of(flag, "approve"))
    assert (await client.get(PLACE)).json()["publishable"] is True
    await put(parts, decision_of(flag, "reject", number=2))
    assert (await client.get(PLACE)).json()["publishable"] is False
    history = (await client.get(f"{PLACE}/history")).json()
    assert [one["publishable"] for one in history["outcomes"]] == [True], "what the policy said then"
    await put(parts, prediction(order=2, outcome="rejected", reason="undecodable", scores=(), upload_id="new"))
    rejected = (await client.get(PLACE)).json()
    assert (rejected["outcome"], rejected["publishable"], rejected["frames"]) == ("rejected", False, 0)


async def test_an_image_says_which_rendition_gave_a_value(parts: ApiParts, client: httpx.AsyncClient) -> None:
    looked_at = (Rendition(0, 0, 0, 1, 1, "white"), Rendition(0, 0, 0, 1, 1, "dark"))
    seen = ModelScores("nsfw", "1", "p1", (LabelScore("nsfw", 0.9, 1), LabelScore("other", 0.1, 0)), (), False, "")
    outcome = prediction(scores=(seen,), frames=1, truncated=True, renditions=looked_at)
    match = RuleMatch("r", "block", 90, "", (RuleCondition("nsfw", "1", "nsfw", 0.9, ">=", 0.8, False, 1),))
    await put(parts, outcome, flag_of(outcome, frames=1, truncated=True, renditions=looked_at, rules=(match,)))
    told = (await client.get(PLACE)).json()
    assert (told["frames"], told["truncated"]) == (1, True)
    assert told["rendition_of"] == {"nsfw": {"nsfw": 1}}, "index 0 is not listed"
    dark = {"frame": 0, "left": 0, "top": 0, "right": 1, "bottom": 1, "ground": "dark"}
    assert told["renditions"][1] == told["flag"]["renditions"][1] == dark
    assert told["flag"]["rules"][0]["conditions"][0]["rendition"] == 1
    assert (await client.get(f"/v1/content/{outcome.sha256}")).json()["renditions"] == told["renditions"]


async def test_an_unchanged_image_costs_no_body(parts: ApiParts, client: httpx.AsyncClient) -> None:
    await put(parts, prediction())
    first = await client.get(PLACE)
    again = await client.get(PLACE, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == first.headers["etag"]
    await put(parts, prediction(order=2, upload_id="new"))
    assert (await client.get(PLACE, headers={"If-None-Match": first.headers["etag"]})).status_code == 200


async def test_what_is_not_known_says_which_kind_of_nothing(parts: ApiParts, client: httpx.AsyncClient) -> None:
    missing = await client.get(PLACE)
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_image")
    assert missing.headers["content-type"] == "application/problem+json"
    assert missing.json()["request_id"] == missing.headers["x-request-id"]
    await put(parts, task_of(prediction()))
    waiting = await client.get(PLACE)
    assert (waiting.status_code, waiting.json()["status"]) == (202, "under_way")
    assert waiting.json()["queue_seconds"] > 0 and waiting.headers["retry-after"] == "1"
    await put(parts, prediction(), removal(order=2))
    gone = await client.get(PLACE)
    assert (gone.status_code, gone.json()["code"]) == (404, "removed_image")
    assert gone.json()["removed_ms"] == removal(order=2).event_time_ms


async def test_waiting_ends_with_the_outcome(parts: ApiParts, client: httpx.AsyncClient) -> None:
    asked = asyncio.create_task(client.get(PLACE, params={"wait": "20s"}))
    await asyncio.sleep(0.05)
    await put(parts, task_of(prediction()))
    await asyncio.sleep(0.05)
    assert not asked.done()
    await put(parts, prediction())
    async with asyncio.timeout(2):
        answer = await asked
    assert answer.status_code == 200 and answer.json()["outcome"] == "scored"


async def test_waiting_for_an_upload_passes_over_an_older_outcome(parts: ApiParts, client: httpx.AsyncClient) -> None:
    await put(parts, prediction(order=1, etag="aaa"))
    assert (await client.get(PLACE, params={"etag": '"AAA"'})).status_code == 200
    other = await client.get(PLACE, params={"etag": "bbb", "wait": "50ms"})
    assert (other.status_code, other.json()["code"]) == (404, "unknown_upload")
    asked = asyncio.create_task(client.get(PLACE, params={"etag": "bbb", "wait": "20s"}))
    await asyncio.sleep(0.05)
    await put(parts, prediction(order=2, etag="bbb", upload_id="new"))
    async with asyncio.timeout(2):
        assert (await asked).json()["upload_id"] == "new"


async def test_the_outcome_that_was_asked_for_is_told_though_a_later_upload_is_under_way(
    parts: ApiParts, client: httpx.AsyncClient
) -> None:
    await put(parts, prediction(order=1, etag="aaa"), task_of(prediction(order=2, etag="bbb", upload_id="new")))
    async with asyncio.timeout(2):
        answer = await client.get(PLACE, params={"etag": "aaa", "wait": "20s"})
    assert answer.status_code == 200 and answer.json()["pending"]["upload_id"] == "new"


async def test_waiting_ends_with_its_time_and_with_the_service(parts: ApiParts, client: httpx.AsyncClient) -> None:
    await put(parts, task_of(prediction()))
    assert (await client.get(PLACE, params={"wait": "100ms"})).status_code == 202
    asked = asyncio.create_task(client.get(PLACE, params={"wait": "20s"}))
    await asyncio.sleep(0.05)
    parts.stopping.set()
    async with asyncio.timeout(2):
        assert (await asked).status_code == 202


@pytest.mark.parametrize("wait", ["soon", "-1", "5m", "1e9", "9999999s"])
async def test_a_wait_that_is_none_is_refused(client: httpx.AsyncClient, wait: str) -> None:
    answer = await client.get(PLACE, params={"wait": wait})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_keys_are_found_exactly(parts: ApiParts, client: httpx.AsyncClient) -> None:
    keys = ["a b/ü/日本.jpg", "a/../b", "a//b", "a/history", "100%", "q?x=1#y", "/lead"]
    await put(parts, *(prediction(key=key, sha256=None, upload_id=f"u-{key}") for key in keys))
    for key in keys:
        answer = await client.get(f"/v1/images/images/{quote(key, safe='')}")
        assert (answer.status_code, answer.json()["key"]) == (200, key)
    assert (await client.get("/v1/images/images/a%2F..%2Fc")).status_code == 404
    assert (await client.get("/v1/images/images/b")).status_code == 404


async def test_many_at_once_in_their_order(parts: ApiParts, client: httpx.AsyncClient) -> None:
    removed = prediction(key="removed.jpg", sha256=None)
    await put(parts, prediction(), task_of(prediction(key="new.jpg")), removed, removal(order=2, key="removed.jpg"))
    names = [{"bucket": "images", "key": key} for key in ("x.jpg", "shop/photo-0001.jpg", "new.jpg", "removed.jpg")]
    answer = await client.post("/v1/images:batchGet", json={"images": names})
    assert [one["status"] for one in answer.json()["images"]] == ["unknown", "found", "under_way", "removed"]
    assert answer.json()["images"][1]["image"]["outcome"] == "scored"
    assert (await client.post("/v1/images:batchGet", json={"images": names * 126})).status_code == 422
    broken = '{"images": [{"bucket": "b", "key": "\\ud800"}]}'
    answer = await client.post("/v1/images:batchGet", content=broken, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    # A key that every HTTP client would take out of a path.
    await put(parts, prediction(key="..", sha256=None, upload_id="dots"))
    dots = await client.post("/v1/images:batchGet", json={"images": [{"bucket": "images", "key": ".."}]})
    assert dots.json()["images"][0]["image"]["upload_id"] == "dots"


async def test_history_and_content(parts: ApiParts, client: httpx.AsyncClient) -> None:
    assert (await client.get(PLACE + "/history")).status_code == 404
    first = prediction(order=1)
    flag = flag_of(first)
    again = prediction(order=1, upload_id="again", job_id="job", scored_at_ms=first.scored_at_ms + 60_000)
    await put(parts, first, flag, decision_of(flag), again)
    told = (await client.get(PLACE + "/history")).json()
    assert [one["upload_id"] for one in told["outcomes"]] == ["again", first.upload_id]
    assert [one["decision"] for one in told["decisions"]] == ["reject"]
    content = (await client.get(f"/v1/content/{first.sha256}")).json()
    assert content["seen_as"] == {"bucket": "images", "key": "shop/photo-0001.jpg"}
    assert (await client.get("/v1/content/" + "0" * 64)).json()["code"] == "unknown_content"
    assert (await client.get("/v1/content/xyz")).status_code == 422


async def test_an_index_that_is_away_is_503_and_comes_back(parts: ApiParts, client: httpx.AsyncClient) -> None:
    assert isinstance(parts.index, MemoryIndex)
    await put(parts, prediction())
    parts.index.available = False
    answer = await client.get(PLACE)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable") and answer.headers["retry-after"]
    parts.index.available = True
    assert (await client.get(PLACE)).status_code == 200


async def test_nobody_reads_without_the_scope(parts: ApiParts, client: httpx.AsyncClient) -> None:
    token, _ = give_key(parts, ["score"], name="other")
    assert (await client.get(PLACE, headers=bearer(token))).status_code == 403
    assert (await client.get(PLACE, headers={"Authorization": "Bearer slk_x_y"})).status_code == 401
