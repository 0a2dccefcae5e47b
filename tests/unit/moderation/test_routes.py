"""The moderators' queue and their decisions over HTTP, in process on memory twins."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.api.application import build_application
from app.api.dependencies import ApiParts
from app.moderation.decisions import Decisions
from app.pipeline.index import ImageFacts
from app.ports.index import IndexEntry
from schemas.records import FlaggedImage, ModerationDecision
from tests.support.api.in_process import MemoryDecisionTopic, bearer, client_of, give_key, memory_parts
from tests.support.manual_clock import ManualClock
from tests.support.memory.moderation import MemoryDecisionLog
from tests.support.outcomes import flag_of, prediction


class Office:
    """Moderators at one service."""

    def __init__(self, parts: ApiParts, clock: ManualClock, topic: MemoryDecisionTopic) -> None:
        self.parts = parts
        self.clock = clock
        self.topic = topic
        self.facts = ImageFacts(parts.index, parts.queue, parts.settings.moderation.actions)
        self.client = client_of(build_application(parts))
        self._headers = {name: bearer(give_key(parts, ["moderate"], name=name)[0]) for name in ("ana", "ben")}

    async def flag(self, *keys: str, **changes: Any) -> list[FlaggedImage]:
        flags = []
        for number, key in enumerate(keys):
            outcome = prediction(key=key, upload_id=f"upload-{key}", sha256=None, order=number + 1)
            flags.append(flag_of(outcome, **changes))
            records = (outcome, flags[-1])
            await self.facts.store([IndexEntry(one, self.parts.codec.encode(one)) for one in records])
        return flags

    async def ask(self, who: str, method: str, path: str, body: object = None) -> httpx.Response:
        return await self.client.request(method, path, headers=self._headers[who], json=body)

    async def lease(self, who: str, count: int = 1) -> list[dict[str, Any]]:
        answer = await self.ask(who, "POST", "/v1/queue/lease", {"count": count})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["leases"])

    async def decide(self, who: str, key: str, decision: str, **more: str) -> httpx.Response:
        body = {"decision_id": str(uuid.uuid4()), "bucket": "images", "key": key, "decision": decision, **more}
        return await self.ask(who, "POST", "/v1/decisions", body)

    async def counts(self, who: str) -> dict[str, Any]:
        return dict((await self.ask(who, "GET", "/v1/queue")).json())


@pytest_asyncio.fixture
async def office() -> AsyncIterator[Office]:
    clock = ManualClock(prediction().scored_at_ms + 10_000)
    parts = memory_parts(clock=clock)
    topic = MemoryDecisionTopic()
    facts = ImageFacts(parts.index, parts.queue, parts.settings.moderation.actions)
    parts.decisions = Decisions(
        facts=facts,
        log=parts.decision_log,
        topic=topic,
        codec=parts.codec,
        clock=clock,
        actions=parts.settings.moderation.actions,
    )
    office = Office(parts, clock, topic)
    async with office.client:
        yield office


async def test_two_moderators_drain_a_queue_and_see_no_image_twice(office: Office) -> None:
    keys = [f"{number:02d}.jpg" for number in range(12)]
    await office.flag(*keys)
    seen: list[str] = []
    turn = 0
    while True:
        who = ("ana", "ben")[turn % 2]
        turn += 1
        leases = await office.lease(who)
        if not leases:
            break
        key = leases[0]["image"]["key"]
        seen.append(key)
        done = await office.decide(who, key, ("approve", "reject")[turn % 2])
        assert done.status_code == 201, done.text
    assert sorted(seen) == keys
    assert sorted(one.key for one in office.topic.published) == keys
    counts = await office.counts("ana")
    assert counts["waiting"] == 0 and counts["oldest_seconds"] is None
    assert counts["today"] == {"approve": 6, "reject": 6, "skip": 0}
    assert sum(counts["mine"].values()) == 6


async def test_a_decision_tells_what_it_is_about_and_its_labels(office: Office) -> None:
    (flag,) = await office.flag("a.jpg")
    answer = await office.decide("ana", "a.jpg", "reject", reason="nsfw-block", flag_id=flag.flag_id)
    told = answer.json()
    assert (told["moderator"], told["flag_id"], told["policy_version"]) == ("ana", flag.flag_id, flag.policy_version)
    assert told["labels"] == [
        {"model": "nsfw", "version": "1", "label": "nsfw", "value": 1, "score": 0.97, "weight": 1}
    ]
    shown = await office.parts.index.image("images", "a.jpg")
    assert shown is not None and shown.decision is not None and shown.decision.decision == "reject"


async def test_the_same_request_is_one_decision(office: Office) -> None:
    await office.flag("a.jpg")
    body = {"decision_id": "one", "bucket": "images", "key": "a.jpg", "decision": "reject"}
    first = await office.ask("ana", "POST", "/v1/decisions", body)
    again = await office.ask("ana", "POST", "/v1/decisions", body)
    assert (first.status_code, again.status_code) == (201, 200) and first.json() == again.json()
    other = await office.ask("ana", "POST", "/v1/decisions", {**body, "decision": "approve"})
    assert (other.status_code, other.json()["code"]) == (409, "id_taken")
    assert (await office.ask("ben", "POST", "/v1/decisions", body)).status_code == 201
    assert len(office.topic.published) == 2
    assert (await office.counts("ana"))["mine"] == {"approve": 0, "reject": 1, "skip": 0}


async def test_undo_brings_the_image_back_to_the_one_who_decided(office: Office) -> None:
    await office.flag("a.jpg")
    await office.lease("ana")
    made = (await office.decide("ana", "a.jpg", "approve")).json()
    assert await office.lease("ana") == []
    undone = await office.decide("ana", "a.jpg", "skip", reason="undo", reverses=made["decision_id"])
    assert undone.status_code == 201 and undone.json()["reverses"] == made["decision_id"]
    assert [one["weight"] for one in undone.json()["labels"]] == [0]
    assert await office.lease("ben") == []
    assert [one["image"]["key"] for one in await office.lease("ana")] == ["a.jpg"]
    assert (await office.counts("ana"))["mine"] == {"approve": 0, "reject": 0, "skip": 0}
    history = await office.parts.index.history("images", "a.jpg")
    assert len(history.decisions) == 2
    stale = await office.decide("ana", "a.jpg", "skip", reverses=made["decision_id"])
    assert (stale.status_code, stale.json()["code"]) == (409, "unknown_decision")


async def test_a_later_decision_reverses_the_earlier(office: Office) -> None:
    await office.flag("a.jpg")
    first = (await office.decide("ana", "a.jpg", "approve")).json()
    second = (await office.decide("ben", "a.jpg", "reject")).json()
    assert second["reverses"] == first["decision_id"]


async def test_what_is_skipped_goes_to_somebody_else(office: Office) -> None:
    await office.flag("a.jpg")
    await office.lease("ana")
    assert (await office.decide("ana", "a.jpg", "skip")).status_code == 201
    assert await office.lease("ana") == []
    assert [one["image"]["key"] for one in await office.lease("ben")] == ["a.jpg"]


async def test_skipping_what_somebody_decided_meanwhile_takes_nothing_back(office: Office) -> None:
    await office.flag("a.jpg")
    await office.decide("ben", "a.jpg", "reject")
    late = await office.decide("ana", "a.jpg", "skip")
    assert (late.status_code, late.json()["code"]) == (409, "already_decided")
    shown = await office.parts.index.image("images", "a.jpg")
    assert shown is not None and shown.decision is not None and shown.decision.decision == "reject"


async def test_what_does_not_fit_is_refused_and_may_be_asked_again(office: Office) -> None:
    await office.flag("a.jpg")
    unknown = await office.decide("ana", "b.jpg", "reject")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_image")
    changed = await office.decide("ana", "a.jpg", "reject", flag_id="another")
    assert (changed.status_code, changed.json()["code"]) == (409, "flag_changed")
    body = {"decision_id": "one", "bucket": "images", "key": "late.jpg", "decision": "reject"}
    assert (await office.ask("ana", "POST", "/v1/decisions", body)).status_code == 404
    await office.flag("late.jpg")
    assert (await office.ask("ana", "POST", "/v1/decisions", body)).status_code == 201
    assert (await office.decide("ana", "a.jpg", "destroy")).status_code == 422
    bad = await office.ask("ana", "POST", "/v1/decisions", {**body, "surprise": 1})
    assert bad.status_code == 422


async def test_a_request_that_died_before_it_published_is_made_once_later(office: Office) -> None:
    await office.flag("a.jpg")
    body = {"decision_id": "one", "bucket": "images", "key": "a.jpg", "decision": "reject"}
    office.topic.available = False
    answer = await office.ask("ana", "POST", "/v1/decisions", body)
    assert answer.status_code == 503 and answer.headers["retry-after"]
    office.topic.available = True
    early = await office.ask("ana", "POST", "/v1/decisions", body)
    assert (early.status_code, early.json()["code"]) == (503, "in_progress")
    await office.clock.sleep(60)
    assert (await office.ask("ana", "POST", "/v1/decisions", body)).status_code == 201
    assert len(office.topic.published) == 1


async def test_a_request_that_died_after_it_published_is_found_on_the_topic(office: Office) -> None:
    await office.flag("a.jpg")
    body = {"decision_id": "one", "bucket": "images", "key": "a.jpg", "decision": "reject"}
    assert isinstance(office.parts.decision_log, MemoryDecisionLog)

    class Dying(MemoryDecisionLog):
        async def made(self, decision: ModerationDecision, wire: bytes, reversed_kind: str) -> None:
            raise KeyboardInterrupt

    log = office.parts.decision_log
    office.parts.decisions._log = dying = Dying(office.clock)
    with pytest.raises(KeyboardInterrupt):
        await office.ask("ana", "POST", "/v1/decisions", body)
    log._claims.update(dying._claims)
    log._taken_ms.update(dying._taken_ms)
    office.parts.decisions._log = log
    await office.clock.sleep(60)
    again = await office.ask("ana", "POST", "/v1/decisions", body)
    assert again.status_code == 200 and again.json()["decision"] == "reject"
    assert len(office.topic.published) == 1


async def test_leases_are_renewed_and_given_back(office: Office) -> None:
    await office.flag("a.jpg", "b.jpg")
    (one,) = await office.lease("ana")
    renewed = (await office.ask("ana", "POST", "/v1/queue/renew", {"lease_ids": [one["lease_id"], "x"]})).json()
    assert renewed == {"renewed": [one["lease_id"]], "lost": ["x"]}
    assert len(await office.lease("ben", 5)) == 1
    released = await office.ask("ana", "POST", "/v1/queue/release", {"lease_ids": [one["lease_id"]]})
    assert released.status_code == 204
    assert len(await office.lease("ben", 5)) == 2


async def test_the_list_shows_what_waits_and_who_has_it(office: Office) -> None:
    await office.flag("a.jpg", "b.jpg")
    (mine,) = await office.lease("ana")
    rows = (await office.ask("ben", "GET", "/v1/flagged?actions=block,review")).json()["images"]
    assert {row["image"]["key"]: row["leased_by"] for row in rows} == {
        "a.jpg": "ana" if mine["image"]["key"] == "a.jpg" else None,
        "b.jpg": "ana" if mine["image"]["key"] == "b.jpg" else None,
    }
    assert (await office.ask("ben", "GET", "/v1/flagged?actions=notify")).json() == {"images": []}
    assert (await office.ask("ben", "GET", "/v1/flagged?actions=none")).status_code == 422


async def test_what_no_longer_waits_is_not_handed_out(office: Office) -> None:
    """The queue may be behind the index: the index has the last word."""
    (flag,) = await office.flag("a.jpg")
    await office.decide("ana", "a.jpg", "approve")
    from app.domain.moderation import waiting

    await office.parts.queue.put([(("images", "a.jpg"), waiting(flag))])
    assert await office.lease("ben") == []
    assert (await office.counts("ben"))["waiting"] == 0
