"""One suite on the memory twin and on Redis: what an index promises."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.ports.index import Index, IndexedImage, IndexEntry, PendingUpload
from app.systems.redis.index import RedisIndex
from app.systems.registry.avro import Codec
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, ImageTask, ModerationDecision
from tests.support.memory.index import MemoryIndex
from tests.support.outcomes import EVENT_MS, decision_of, flag_of, prediction, removal, scores, task_of
from tests.support.redis_process import RedisProcess

Fact = ImagePrediction | ImageRemoved | FlaggedImage | ImageTask | ModerationDecision
CODEC = Codec()
IMAGE = ("images", "shop/photo-0001.jpg")


@pytest_asyncio.fixture(params=["memory", "redis"])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Index]:
    if request.param == "memory":
        yield MemoryIndex()
        return
    server = RedisProcess(tmp_path)
    await server.start()
    connected = RedisIndex(server.settings(), CODEC)
    try:
        yield connected
    finally:
        await connected.close()
        await server.close()


async def put(index: Index, *facts: Fact) -> None:
    await index.apply([IndexEntry(fact, CODEC.encode(fact)) for fact in facts])


async def held(index: Index) -> IndexedImage:
    found = await index.image(*IMAGE)
    assert found is not None
    return found


async def test_nothing_is_known_of_a_stranger(index: Index) -> None:
    assert await index.image("images", "never-seen.jpg") is None
    assert await index.content("0" * 64) is None


async def test_an_outcome_is_found_by_image_and_by_content(index: Index) -> None:
    outcome = prediction()
    await put(index, outcome)
    assert await held(index) == IndexedImage(*IMAGE, outcome, None, None)
    assert outcome.sha256 is not None
    assert await index.content(outcome.sha256) == outcome


async def test_the_later_upload_stands_whatever_arrives_first(index: Index) -> None:
    old, new = prediction(order=1), prediction(order=2)
    await put(index, new)
    await put(index, old)
    assert (await held(index)).prediction == new


async def test_order_keys_are_compared_as_text_not_as_numbers(index: Index) -> None:
    # Right-padded: the shorter sequencer 006B04044F is newer than the longer, numerically larger one.
    newer = prediction(order_key="006B04044F".ljust(32, "0"), upload_id="newer")
    older = prediction(order_key="006B04044E1234567890".ljust(32, "0"), upload_id="older")
    await put(index, newer, older)
    assert (await held(index)).prediction == newer


async def test_the_same_fact_twice_changes_nothing(index: Index) -> None:
    outcome = prediction()
    flag = flag_of(outcome)
    await put(index, outcome, flag)
    before = await held(index)
    await put(index, outcome, flag, outcome)
    assert await held(index) == before


async def test_different_dialects_are_ordered_by_event_time(index: Index) -> None:
    late = prediction(order=5, dialect="minio", order_key="18EAB62A79A6217A" + "0" * 16, upload_id="late")
    early = prediction(order=4, dialect="aws", order_key="F" * 32, upload_id="early")
    await put(index, late)
    await put(index, early)
    assert (await held(index)).prediction == late


async def test_without_an_order_key_the_event_time_decides(index: Index) -> None:
    late = prediction(order=5, dialect="aws", order_key="", upload_id="late")
    early = prediction(order=4, dialect="aws", order_key="", upload_id="early")
    await put(index, late)
    await put(index, early)
    assert (await held(index)).prediction == late


async def test_a_rescoring_replaces_what_it_rescored(index: Index) -> None:
    first = prediction(order=1)
    again = prediction(
        order=1, job_id="job-1", scored_at_ms=first.scored_at_ms + 60_000, scores=(scores("nsfw", nsfw=1),)
    )
    await put(index, again)
    await put(index, first)
    assert (await held(index)).prediction == again


async def test_a_rescoring_never_replaces_a_newer_upload(index: Index) -> None:
    newer = prediction(order=2)
    again = prediction(order=1, job_id="job-1", scored_at_ms=newer.scored_at_ms + 60_000)
    await put(index, newer)
    await put(index, again)
    assert (await held(index)).prediction == newer


async def test_the_scores_that_a_job_superseded_are_not_kept(index: Index) -> None:
    first = prediction(order=1)
    again = prediction(order=1, job_id="job-1", scored_at_ms=first.scored_at_ms + 1, previous=first.scores)
    await put(index, again)
    found = (await held(index)).prediction
    assert found is not None
    assert found.previous == ()
    assert (found.upload_id, found.scores) == (again.upload_id, again.scores)


async def test_a_removal_removes_outcome_and_flag(index: Index) -> None:
    outcome = prediction(order=1)
    gone = removal(order=2)
    await put(index, outcome, flag_of(outcome))
    await put(index, gone)
    assert await held(index) == IndexedImage(*IMAGE, None, None, gone.event_time_ms)


async def test_a_late_outcome_of_a_removed_image_stays_out(index: Index) -> None:
    outcome = prediction(order=1)
    await put(index, removal(order=2))
    await put(index, outcome, flag_of(outcome))
    found = await held(index)
    assert (found.prediction, found.flag) == (None, None)


async def test_an_upload_after_a_removal_is_shown(index: Index) -> None:
    again = prediction(order=3)
    await put(index, prediction(order=1), removal(order=2), again)
    await put(index, removal(order=2))
    assert (await held(index)).prediction == again


async def test_erasing_an_old_version_leaves_the_latest(index: Index) -> None:
    old, new = prediction(order=1, version_id="v1"), prediction(order=2, version_id="v2")
    await put(index, old, new, removal(order=3, version_id="v1"))
    assert (await held(index)).prediction == new
    await put(index, old)
    assert (await held(index)).prediction == new


async def test_erasing_the_latest_version_forgets_it_for_good(index: Index) -> None:
    outcome = prediction(order=1, version_id="v1")
    await put(index, outcome, flag_of(outcome), removal(order=2, version_id="v1"))
    assert await index.image(*IMAGE) is None
    await put(index, outcome)
    assert await index.image(*IMAGE) is None


async def test_a_delete_marker_removes_the_image(index: Index) -> None:
    await put(index, prediction(order=1, version_id="v1"))
    await put(index, removal(order=2, version_id="marker", delete_marker=True))
    assert (await held(index)).prediction is None


async def test_a_removal_by_the_other_reading_takes_away_what_that_reading_found(index: Index) -> None:
    outcome = prediction(order=1, event_key="shop/photo%2D0001.jpg")
    gone = removal(order=2, event_key="shop/photo%2D0001.jpg")
    await put(index, outcome, flag_of(outcome, event_key=outcome.event_key))
    found = await held(index)
    assert found.prediction == outcome and found.flag is not None
    await put(index, gone)
    assert await held(index) == IndexedImage(*IMAGE, None, None, gone.event_time_ms)
    await put(index, outcome, flag_of(outcome, event_key=outcome.event_key))
    assert (await held(index)).prediction is None


async def test_a_removal_by_the_other_reading_leaves_an_image_that_the_first_reading_named(index: Index) -> None:
    """Guarantee: the removal of `a+b.jpg`, read as `a b.jpg` too, does not take away an image that is called so."""
    alive = prediction(order=1)
    flag = flag_of(alive)
    gone = removal(order=2, event_key="shop/photo%2D0001.jpg")
    await put(index, gone, alive, flag, gone)
    assert await held(index) == IndexedImage(*IMAGE, alive, flag, None)


async def test_an_image_that_both_readings_found_keeps_the_one_that_is_left(index: Index) -> None:
    alive, copy = prediction(order=1), prediction(order=2, event_key="shop/photo%2D0001.jpg")
    facts = alive, flag_of(alive), copy, flag_of(copy, event_key=copy.event_key)
    await put(index, *facts)
    assert await held(index) == IndexedImage(*IMAGE, copy, facts[3], None)
    await put(index, removal(order=3, event_key="shop/photo%2D0001.jpg"))
    assert await held(index) == IndexedImage(*IMAGE, alive, facts[1], None)


@pytest.mark.parametrize(("dialect", "stays"), [("aws", True), ("minio", False)])
async def test_a_removal_by_the_first_reading_speaks_of_the_other_only_from_another_dialect(
    index: Index, dialect: str, stays: bool
) -> None:
    outcome = prediction(order=1, event_key="shop/photo%2D0001.jpg")
    await put(index, outcome, removal(order=2, dialect=dialect))
    assert ((await held(index)).prediction == outcome) is stays


@pytest.mark.parametrize("told", [None, "shop/photo%2D0001.jpg"])
@pytest.mark.parametrize("found", [None, "shop/photo%2D0001.jpg"])
async def test_an_erased_version_is_forgotten_by_both_readings(
    index: Index, told: str | None, found: str | None
) -> None:
    outcome = prediction(order=1, version_id="v1", event_key=found)
    erased = removal(order=2, version_id="v1", event_key=told)
    await put(index, outcome, flag_of(outcome, event_key=found), erased)
    assert await index.image(*IMAGE) is None
    await put(index, outcome)
    assert await index.image(*IMAGE) is None


async def test_a_flag_is_shown_with_its_own_upload_only(index: Index) -> None:
    old, new = prediction(order=1), prediction(order=2)
    flag = flag_of(old)
    await put(index, flag, old)
    assert (await held(index)).flag == flag
    await put(index, new)
    assert (await held(index)).flag is None


async def test_a_flag_outlives_a_rescoring_that_changed_nothing(index: Index) -> None:
    first = prediction(order=1)
    flag = flag_of(first)
    again = prediction(order=1, job_id="job-1", scored_at_ms=first.scored_at_ms + 60_000)
    await put(index, first, flag, again)
    assert await held(index) == IndexedImage(*IMAGE, again, flag, None)


async def test_a_flag_taken_back_replaces_the_flag(index: Index) -> None:
    first = prediction(order=1)
    again = prediction(order=1, job_id="job-1", scored_at_ms=first.scored_at_ms + 60_000)
    cleared = flag_of(again, state="cleared", action="none", rules=(), changed=True, previous_action="block")
    await put(index, first, cleared, again)
    await put(index, flag_of(first))
    assert (await held(index)).flag == cleared


async def test_the_latest_scoring_of_a_content_stands(index: Index) -> None:
    first, later = prediction(order=1), prediction(order=2, key="copy.jpg")
    assert later.sha256 is not None
    await put(index, later)
    await put(index, first)
    assert await index.content(later.sha256) == later


async def test_keys_with_every_character_are_kept_apart(index: Index) -> None:
    keys = ("a{b}c", "a{b}d", "tab\there", "line\nbreak", "日本 語.jpg", "}{", "a")
    await put(index, *(prediction(key=key, sha256=None, upload_id=key) for key in keys))
    for key in keys:
        found = await index.image("images", key)
        assert found is not None and found.prediction is not None
        assert found.prediction.upload_id == key


@pytest.mark.parametrize("seed", range(20))
async def test_any_order_of_arrival_ends_in_the_same_state(index: Index, seed: int) -> None:
    """Guarantee: facts of one dialect with order keys commute; replays and rebuilds may come in any order."""
    draw = random.Random(seed)
    facts = _history(draw)
    await put(index, *facts)
    expected = await index.image(*IMAGE)
    shuffled = [*facts, *draw.sample(facts, len(facts) // 2)]
    draw.shuffle(shuffled)
    other = MemoryIndex()
    await put(other, *shuffled)
    assert await other.image(*IMAGE) == expected
    moved = [_at(fact, "another.jpg") for fact in shuffled]
    await put(index, *moved)
    found = await index.image("images", "another.jpg")
    assert (found and found.prediction and found.prediction.upload_id) == (
        expected and expected.prediction and expected.prediction.upload_id
    )
    assert (found and found.removed_at_ms) == (expected and expected.removed_at_ms)
    assert (found and found.flag and found.flag.flag_id) == (expected and expected.flag and expected.flag.flag_id)
    assert (found and found.decision and found.decision.decision_id) == (
        expected and expected.decision and expected.decision.decision_id
    )
    assert (found and found.pending) == (expected and expected.pending)
    kept, again = await other.history(*IMAGE), await index.history("images", "another.jpg")
    assert [one.upload_id for one in again.outcomes] == [one.upload_id for one in kept.outcomes]
    assert [one.decision_id for one in again.decisions] == [one.decision_id for one in kept.decisions]


def _history(draw: random.Random) -> list[Fact]:
    facts: list[Fact] = []
    for order in range(1, draw.randint(3, 9)):
        event_key = draw.choice((None, None, "shop/photo%2D0001.jpg"))
        if draw.random() < 0.3:
            facts.append(removal(order=order, event_key=event_key))
            continue
        outcome = prediction(order=order, upload_id=f"upload-{order}", sha256=None, event_key=event_key)
        facts.append(task_of(outcome, event_key=event_key))
        if draw.random() < 0.2:
            continue  # still under way
        facts.append(outcome)
        if draw.random() < 0.5:
            flag = flag_of(outcome, event_key=event_key)
            facts.append(flag)
            if draw.random() < 0.5:
                facts += [decision_of(flag, number=2 * order + again) for again in range(draw.randint(1, 2))]
        if draw.random() < 0.3:
            later = outcome.scored_at_ms + draw.choice((0, 1, 60_000))
            facts.append(dataclasses.replace(outcome, upload_id=f"job-{order}", job_id="j", scored_at_ms=later))
    return facts


def _at(fact: Fact, key: str) -> Fact:
    return dataclasses.replace(fact, key=key)


async def test_an_upload_under_way_is_known_until_its_outcome_is(index: Index) -> None:
    old, new = prediction(order=1), prediction(order=2, upload_id="new")
    await put(index, task_of(old))
    found = await held(index)
    assert found.prediction is None and found.removed_at_ms is None
    assert found.pending == PendingUpload(old.upload_id, old.identified_at_ms)
    await put(index, old)
    assert (await held(index)).pending is None
    await put(index, task_of(new))
    found = await held(index)
    assert found.prediction == old
    assert found.pending is not None and found.pending.upload_id == "new"
    await put(index, new, task_of(new), task_of(old))
    assert (await held(index)).pending is None


@pytest.mark.parametrize("erased_at", [0, 1, 2])
async def test_an_upload_whose_version_is_erased_is_under_way_no_more(index: Index, erased_at: int) -> None:
    outcome = prediction(version_id="v1", outcome="gone", sha256=None)
    facts: list[Fact] = [task_of(outcome), outcome]
    facts.insert(erased_at, removal(order=2, version_id="v1", delete_marker=False))
    await put(index, *facts)
    assert await index.image(*IMAGE) is None


async def test_a_removed_image_that_is_uploaded_again_is_under_way(index: Index) -> None:
    await put(index, prediction(order=1), removal(order=2), task_of(prediction(order=3, upload_id="new")))
    found = await held(index)
    assert found.removed_at_ms is not None
    assert found.pending is not None and found.pending.upload_id == "new"


async def test_every_outcome_and_decision_stays_in_the_history(index: Index) -> None:
    first = prediction(order=1)
    again = prediction(order=1, upload_id="again", job_id="j", scored_at_ms=first.scored_at_ms + 60_000)
    second = prediction(order=2, upload_id="second", scored_at_ms=first.scored_at_ms + 90_000)
    flag = flag_of(first)
    undone = decision_of(flag, "skip", number=2, reverses="decision-1")
    await put(index, second, first, flag, decision_of(flag, number=1), again, undone, first)
    kept = await index.history(*IMAGE)
    assert list(kept.outcomes) == [second, again, first]
    assert [one.decision_id for one in kept.decisions] == ["decision-2", "decision-1"]


async def test_a_history_holds_the_newest_and_forgets_erased_versions(index: Index) -> None:
    outcomes = [
        prediction(order=order, upload_id=f"u{order:03d}", version_id=f"v{order}", scored_at_ms=EVENT_MS + order)
        for order in range(1, 61)
    ]
    await put(index, *outcomes)
    kept = await index.history(*IMAGE)
    # The latest, and the fifty before it.
    assert [one.upload_id for one in kept.outcomes] == [f"u{order:03d}" for order in range(60, 9, -1)]
    await put(index, removal(order=30, version_id="v30", delete_marker=False))
    kept = await index.history(*IMAGE)
    assert "u030" not in {one.upload_id for one in kept.outcomes} and len(kept.outcomes) == 50


async def test_a_decision_is_shown_with_its_own_upload_only(index: Index) -> None:
    old, new = prediction(order=1), prediction(order=2)
    flag = flag_of(old)
    decision = decision_of(flag)
    await put(index, old, flag, decision)
    assert (await held(index)).decision == decision
    later = decision_of(flag, "approve", number=2, reverses=decision.decision_id)
    await put(index, later, decision)
    assert (await held(index)).decision == later
    await put(index, new)
    assert (await held(index)).decision is None


async def test_it_tells_whose_flag_may_be_another_one(index: Index) -> None:
    outcome, other = prediction(order=1), prediction(order=1, key="other.jpg", sha256=None)
    flag = flag_of(outcome)
    assert await applied(index, outcome, other, task_of(outcome)) == []
    assert await applied(index, flag) == [IMAGE]
    assert await applied(index, prediction(order=2, upload_id="new"), other) == [IMAGE]
    assert await applied(index, decision_of(flag)) == [IMAGE]
    assert await applied(index, removal(order=3)) == [IMAGE]
    # A flag that comes before its outcome counts when that comes.
    early = prediction(order=1, key="early.jpg", sha256=None)
    assert await applied(index, flag_of(early)) == [("images", "early.jpg")]
    assert await applied(index, early) == [("images", "early.jpg")]


async def applied(index: Index, *facts: Fact) -> list[tuple[str, str]]:
    return list(await index.apply([IndexEntry(fact, CODEC.encode(fact)) for fact in facts]))


async def test_many_images_are_asked_at_once_in_their_order(index: Index) -> None:
    outcomes = [prediction(key=f"{number}.jpg", sha256=None, upload_id=str(number)) for number in range(40)]
    await put(index, *outcomes)
    asked = [("images", f"{number}.jpg") for number in (7, 3, 99, 7)]
    found = await index.images(asked)
    assert [one and one.prediction and one.prediction.upload_id for one in found] == ["7", "3", None, "7"]
    together = await asyncio.gather(*(index.image("images", f"{number}.jpg") for number in range(60)))
    assert [one is not None for one in together] == [number < 40 for number in range(60)]


async def test_questions_that_come_as_the_last_answer_is_given_are_answered(index: Index) -> None:
    await put(index, prediction())

    async def ask() -> None:
        for _ in range(100):
            assert await index.image(*IMAGE) is not None

    async with asyncio.timeout(30):
        await asyncio.gather(*(ask() for _ in range(5)))


async def test_large_batches_are_stored_whole(index: Index) -> None:
    outcomes = [
        prediction(key=f"{number}.jpg", sha256=f"{number:064x}", upload_id=str(number)) for number in range(600)
    ]
    await put(index, *outcomes)
    for number in (0, 299, 599):
        found = await index.image("images", f"{number}.jpg")
        assert found is not None and found.prediction == outcomes[number]
