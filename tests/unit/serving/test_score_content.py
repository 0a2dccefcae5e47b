"""One content scored while its caller waits: what is known costs nothing, and no caller costs another."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from app.domain.contents import ContentRow
from app.domain.images import Rejection, RejectReason
from app.errors import DeadlineExceeded, Overloaded
from app.ports.index import IndexEntry
from app.scoring.files import FileScorer, Source
from app.scoring.verb import plain_score
from app.serving.score_content import ScoredContent
from tests.support.api.scoring import POLICY, ToyScorer
from tests.support.eventually import eventually
from tests.support.memory.objects import MemoryObjectStore
from tests.support.outcomes import prediction
from tests.support.pictures import encoded, jpeg, noise, plain
from tests.support.toy_models import ToyModels

GREEN, RED = jpeg((0, 250, 0)), jpeg((250, 0, 0))
Make = Callable[..., ToyScorer]


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    made: list[ToyScorer] = []

    def one(models: ToyModels | None = None, most: int = 32) -> ToyScorer:
        made.append(ToyScorer(models=models or ToyModels(), most=most))
        return made[-1]

    yield one
    for toy in made:
        for network in (toy.models.colour, toy.models.detail):
            if network.hold is not None:
                network.hold.set()
        await toy.close()


def hold(toy: ToyScorer) -> threading.Event:
    toy.models.colour.hold = threading.Event()
    return toy.models.colour.hold


async def scored(toy: ToyScorer, body: bytes, deadline: float | None = None) -> ScoredContent:
    found = await toy.scorer.score(body, deadline=deadline)
    assert isinstance(found, ScoredContent), found
    return found


async def test_a_content_gets_what_the_files_verb_gives(make: Make) -> None:
    toy = make()
    found = await scored(toy, GREEN)
    store = MemoryObjectStore()
    ref = store.put("images", "a.jpg", GREEN)
    files = FileScorer(toy.engine, toy.settings, policy=POLICY, store=store)
    of_file = plain_score(await files.score(Source("a.jpg", ref=ref)))
    assert {one.model: {label.label: label.value for label in one.labels} for one in found.scores} == of_file["scores"]
    assert of_file["publishable"] is found.publishable is True
    assert (of_file["frames"], of_file["truncated"]) == (found.frames, found.truncated) == (1, False)
    assert len(of_file["renditions"]) == len(found.renditions) == 1
    assert (found.action, list(found.reasons)) == (of_file["action"], of_file["reasons"]) == ("notify", ["too_green"])
    assert [rule.rule for rule in found.rules] == [flag["rule"] for flag in of_file["flags"]] == ["green"]
    assert (found.format, found.width, found.height, found.size_bytes) == ("jpeg", 64, 48, len(GREEN))
    assert found.sha256 == hashlib.sha256(GREEN).hexdigest() and not found.cached


async def test_what_this_process_knows_is_answered_without_cache_and_models(make: Make) -> None:
    toy = make()
    first = await scored(toy, RED)
    asked, ran = len(toy.cache.asked), toy.models.colour.entered
    again = await scored(toy, RED)
    assert again.cached and [one.labels for one in again.scores] == [one.labels for one in first.scores]
    assert (len(toy.cache.asked), toy.models.colour.entered) == (asked, ran)
    assert toy.answers() == {"computed": 1, "cached": 1}


async def test_what_another_process_knows_comes_from_the_cache_once(make: Make) -> None:
    toy = make()
    first = await scored(toy, RED)
    sha256 = first.sha256
    await eventually(lambda: toy.cache.get(sha256))
    toy.restart()
    asked = len(toy.cache.asked)
    for _ in range(2):
        again = await scored(toy, RED)
        assert again.cached and (again.width, again.reasons) == (first.width, first.reasons)
        assert [one.labels for one in again.scores] == [one.labels for one in first.scores]
    assert len(toy.cache.asked) == asked + 1 and toy.models.colour.entered == 1


async def test_what_came_through_the_stream_is_known(make: Make) -> None:
    toy = make()
    first = await scored(toy, RED)
    outcome = prediction(
        sha256=first.sha256, scores=first.scores, format=first.format, width=first.width, height=first.height, frames=1
    )
    other = make()
    await other.index.apply([IndexEntry(outcome, b"")])
    assert (await scored(other, RED)).cached
    assert other.models.colour.entered == 0


async def test_of_a_partly_known_content_only_the_rest_is_computed(make: Make) -> None:
    old = make(ToyModels(tint_version="1"))
    first = await scored(old, RED)
    new = make(ToyModels(tint_version="2"))
    await new.cache.put(first.sha256, ContentRow("jpeg", 64, 48, first.scores))
    found = await scored(new, RED)
    versions = {one.model: (one.version, one.cached) for one in found.scores}
    assert versions["tint"] == ("2", False) and versions["detail"] == ("1", True)
    assert new.models.detail.entered == 0, "its score was known and stays"

    async def both_kept() -> bool:
        row = await new.cache.get(found.sha256)
        return row is not None and {one.version for one in row.scores if one.model == "tint"} == {"1", "2"}

    await eventually(both_kept)


async def test_scores_of_another_version_or_preprocessing_are_not_known(make: Make) -> None:
    toy, other = make(), make(ToyModels(colour_version="2"))
    first = await scored(toy, RED)
    await other.cache.put(first.sha256, ContentRow("jpeg", 64, 48, first.scores))
    found = await scored(other, RED)
    assert not found.cached and other.models.colour.entered == 1


async def test_equal_bytes_in_flight_are_computed_once(make: Make) -> None:
    toy = make(most=1)
    held = hold(toy)
    callers = [asyncio.create_task(scored(toy, RED)) for _ in range(8)]
    await eventually(lambda: toy.contents.counts.joined == 7)
    assert toy.admission.in_hand == 1, "who joins takes no place"
    held.set()
    found = await asyncio.gather(*callers)
    assert toy.models.colour.batches == [1]
    assert sum(not one.cached for one in found) == 1
    assert toy.answers() == {"computed": 1, "joined": 7}
    assert toy.admission.in_hand == 0


async def test_beyond_the_limit_a_caller_is_refused_and_known_contents_are_not(make: Make) -> None:
    toy = make(most=2)
    await scored(toy, GREEN)
    held = hold(toy)
    callers = [asyncio.create_task(scored(toy, encoded(noise(seed)))) for seed in range(2)]
    await eventually(lambda: toy.admission.in_hand == 2)
    began = time.monotonic()
    with pytest.raises(Overloaded) as refused:
        await toy.scorer.score(RED)
    assert (await scored(toy, GREEN)).cached
    assert time.monotonic() - began < 1.0
    assert refused.value.retry_after_seconds >= 1
    held.set()
    await asyncio.gather(*callers)
    assert toy.answers()["refused"] == 1
    assert not (await scored(toy, RED)).cached


async def test_past_its_deadline_the_work_is_given_up(make: Make) -> None:
    toy = make()
    held = hold(toy)
    with pytest.raises(DeadlineExceeded):
        await toy.scorer.score(RED, deadline=time.monotonic() + 0.05)
    await eventually(lambda: toy.admission.in_hand == 0)
    assert not toy.contents.is_under_way(hashlib.sha256(RED).hexdigest(), frozenset())
    held.set()
    assert toy.answers() == {"deadline": 1}
    assert not (await scored(toy, RED)).cached, "what was given up is computed anew"


async def test_past_its_deadline_others_keep_the_work(make: Make) -> None:
    toy = make()
    held = hold(toy)
    patient = asyncio.create_task(scored(toy, RED))
    await eventually(lambda: toy.admission.in_hand == 1)
    with pytest.raises(DeadlineExceeded):
        await toy.scorer.score(RED, deadline=time.monotonic() + 0.05)
    held.set()
    await patient
    assert toy.models.colour.batches == [1]


async def test_who_began_the_work_may_leave_it_to_who_joined(make: Make) -> None:
    toy = make()
    held = hold(toy)
    first = asyncio.create_task(toy.scorer.score(RED, deadline=time.monotonic() + 0.2))
    await eventually(lambda: toy.admission.in_hand == 1)
    joined = asyncio.create_task(scored(toy, RED))
    with pytest.raises(DeadlineExceeded):
        await first
    assert toy.admission.in_hand == 1, "the place is held as long as the work goes on"
    held.set()
    await joined
    await eventually(lambda: toy.admission.in_hand == 0)


async def test_a_cache_that_is_away_is_counted_and_left_alone_for_a_while(make: Make) -> None:
    toy = make()
    toy.cache.available = False
    for seed in range(3):
        assert not (await scored(toy, encoded(noise(seed)))).cached
    assert len(toy.cache.asked) == 1
    assert toy.meters.counts["sightline_api_cache_failures_total", "get"] == 1


async def test_a_cache_that_does_not_answer_holds_nobody_up(make: Make) -> None:
    toy = make()
    toy.cache.gate = asyncio.Event()
    began = time.monotonic()
    await asyncio.gather(*(scored(toy, encoded(noise(seed))) for seed in range(4)))
    assert time.monotonic() - began < 2.0
    assert toy.meters.counts["sightline_api_cache_failures_total", "get"] == 4


async def test_rejections_are_the_streams_own(make: Make) -> None:
    toy = make()
    for body, reason in (
        (b"", RejectReason.EMPTY),
        (b"<svg/>", RejectReason.UNSUPPORTED_FORMAT),
        (RED[:20], RejectReason.UNDECODABLE),
        (encoded(plain((1, 2, 3), (70_000, 1)), "PNG"), RejectReason.TOO_LARGE_SIDE),
    ):
        found = await toy.scorer.score(body)
        assert isinstance(found, Rejection) and found.reason is reason, found
    assert toy.answers() == {"rejected": 4} and toy.admission.in_hand == 0


async def test_a_cancelled_caller_holds_no_place(make: Make) -> None:
    toy = make()
    hold(toy)
    caller = asyncio.create_task(toy.scorer.score(RED))
    await eventually(lambda: toy.admission.in_hand == 1)
    caller.cancel()
    await asyncio.wait([caller])
    await eventually(lambda: toy.admission.in_hand == 0)
