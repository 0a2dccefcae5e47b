"""Moderators at work: the veil, two people at one queue by keyboard, leases that end, a service that goes away."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Page, expect

from app.stack.local import REDIS, LocalStack
from app.topics import DECISIONS, LABELS
from schemas.records import Label, ModerationDecision
from tests.support.api.console import Console, Who
from tests.support.eventually import eventually
from tests.support.marketplace import FLAGGED_IMAGES, ODD_KEYS, listings

pytestmark = [pytest.mark.services, pytest.mark.asyncio(loop_scope="session")]
QUEUE = "/console/queue"
# The key of the image in front, "" where there is none.
FRONT = "document.querySelector('[data-testid=queue-key] bdi')?.textContent ?? ''"
EMPTY = "[document.querySelector('[data-testid=queue-empty]')?.innerText ?? '', document.title]"
FILTER = "getComputedStyle(document.querySelector('[data-testid=queue-preview]')).filter"
RULES = {"nsfw-block", "nsfw-review", "hostile-file", "embedded-text"}
OWN_WORDS = "a <b>logo</b> of somebody else"
DRAIN_SECONDS = 90


async def front(page: Page, *, other_than: str = "") -> str:
    """Return the key of the image in front, once there is one and it is another one."""

    async def look() -> str:
        found = str(await page.evaluate(FRONT))
        return "" if found == other_than else found

    return await eventually(look, 15, every_seconds=0.02, message=f"no image but {other_than!r} in front")


async def veiled(page: Page) -> bool:
    found = str(await page.evaluate(FILTER))
    assert found == "none" or ("blur(34px)" in found and "grayscale(1)" in found), found
    return found != "none"


async def until_veiled(page: Page, wanted: bool) -> None:
    async def as_wanted() -> bool:
        return await veiled(page) is wanted

    await eventually(as_wanted, 5, every_seconds=0.02)


async def test_a_picture_is_seen_only_while_it_is_held_open(shift: Console) -> None:
    async with shift.page("ana", QUEUE) as page:
        await page.get_by_test_id("queue-preview").wait_for()
        assert await veiled(page)
        await page.keyboard.down(" ")
        await until_veiled(page, False)
        await page.keyboard.up(" ")
        await until_veiled(page, True)
        # With the mouse: on the picture, and on the button.
        for place in ("queue-image", "hold"):
            await page.get_by_test_id(place).hover()
            await page.mouse.down()
            await until_veiled(page, False)
            await page.mouse.up()
            await until_veiled(page, True)


async def test_a_window_that_loses_the_focus_veils_its_picture(shift: Console) -> None:
    async with shift.page("ana", QUEUE) as page:
        await page.get_by_test_id("queue-preview").wait_for()
        await page.keyboard.down(" ")
        await until_veiled(page, False)
        await page.evaluate("window.dispatchEvent(new Event('blur'))")
        await until_veiled(page, True)


async def test_the_next_picture_is_veiled_though_the_key_is_still_down(shift: Console) -> None:
    async with shift.page("ana", QUEUE) as page:
        key = await front(page)
        await page.get_by_test_id("queue-preview").wait_for()
        await page.keyboard.down(" ")
        await until_veiled(page, False)
        await page.keyboard.press("n")
        await front(page, other_than=key)
        await page.get_by_test_id("queue-preview").wait_for()
        assert await veiled(page)
        await page.keyboard.up(" ")


async def test_a_lease_that_has_ended_is_said(shift: Console) -> None:
    async with shift.page("ana", QUEUE) as page:
        key = await front(page)
        mine = await shift.ask("ana", "/v1/queue/lease", {"count": 5})
        await shift.ask("ana", "/v1/queue/release", {"lease_ids": [one["lease_id"] for one in mine["leases"]]})
        theirs = await shift.ask("ben", "/v1/queue/lease", {"count": 5})
        assert key in {one["image"]["key"] for one in theirs["leases"]}
        # What the page asks by itself every 20 seconds, it asks at once when it is seen again.
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(page.get_by_test_id("lease-lost")).to_contain_text("someone else may be looking at it")
        assert await page.evaluate(FRONT) == key
        await shift.ask("ben", "/v1/queue/release", {"lease_ids": [one["lease_id"] for one in theirs["leases"]]})


@dataclass(slots=True)
class Drain:
    """What two people did, together."""

    settled: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    shown: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    # Moderator, key, decision, reason, whether it takes one back.
    pressed: list[tuple[str, str, str, str, bool]] = field(default_factory=list)

    async def work(self, page: Page, name: str) -> None:
        """Decide on images, by keyboard alone, until all are settled."""
        turn = 0
        while True:
            key = str(await page.evaluate(FRONT))
            if not key and len(self.settled) == FLAGGED_IMAGES:
                return
            if not key:
                # The other one still has some, which may come over when they are skipped.
                await asyncio.sleep(0)
                continue
            self.shown[key].add(name)
            if key in self.settled:
                # Taken back by the other one, leased ahead, and decided anew before it came in front here.
                await page.keyboard.press("n")
                continue
            await self._decide(page, name, key, turn)
            turn += 1

    @property
    def undone(self) -> set[str]:
        return {key for _, key, _, _, reverses in self.pressed if reverses}

    def of(self, keys: Sequence[str]) -> list[tuple[str, str, str, str, bool]]:
        return [one for one in self.pressed if one[1] in keys]

    async def _decide(self, page: Page, name: str, key: str, turn: int) -> None:
        if turn % 5 == 0:
            await page.keyboard.down(" ")
            await page.keyboard.up(" ")
        match turn % 7:
            case 1:
                await self._press(page, name, key, "r", "reject", "")
            case 2:
                await self._press(page, name, key, "3", "reject", "contact_details")
            case 3 if key not in self.skipped:
                self.skipped.add(key)
                self.pressed.append((name, key, "skip", "", False))
                await page.keyboard.press("s")
            case 4:
                await page.keyboard.press("a")
                self.pressed.append((name, key, "approve", "", False))
                await eventually(lambda: self._is_front(page, key, False), 15, every_seconds=0.02)
                await page.keyboard.press("u")
                self.pressed.append((name, key, "skip", "undo", True))
                await eventually(lambda: self._is_front(page, key, True), 15, every_seconds=0.02)
                await expect(page.get_by_test_id("undone")).to_contain_text("Approved")
                await page.keyboard.press("Shift+R")
                await page.get_by_test_id("reason-dialog").wait_for()
                await self._press(page, name, key, "2", "reject", "violence")
            case 5:
                await page.keyboard.press("9")
                await expect(page.get_by_test_id("reason-other-text")).to_be_focused()
                await page.keyboard.type(OWN_WORDS)
                await self._press(page, name, key, "Enter", "reject", OWN_WORDS)
            case _:
                await self._press(page, name, key, "a", "approve", "")

    async def _press(self, page: Page, name: str, key: str, pressed: str, decision: str, reason: str) -> None:
        await page.keyboard.press(pressed)
        self.pressed.append((name, key, decision, reason, False))
        self.settled.add(key)

    async def _is_front(self, page: Page, key: str, wanted: bool) -> bool:
        return (await page.evaluate(FRONT) == key) is wanted


def told(decision: ModerationDecision) -> tuple[str, str, str, str, bool]:
    # Without a word of the moderator's the reason is the rule that matched.
    reason = "" if decision.reason in RULES else decision.reason
    return decision.moderator, decision.key, decision.decision, reason, decision.reverses is not None


async def decisions_of(console: Console) -> list[ModerationDecision]:
    return [one for one in await console.records(DECISIONS) if isinstance(one, ModerationDecision)]


async def labels_of(console: Console) -> list[Label]:
    return [one for one in await console.records(LABELS) if isinstance(one, Label)]


async def nothing_waits(page: Page) -> bool:
    if await page.evaluate(FRONT):
        # Taken back by the other one, leased in that moment, and decided anew.
        await page.keyboard.press("n")
        return False
    text, title = await page.evaluate(EMPTY)
    return "Nothing waits" in text and title == "Queue · Sightline"


async def counts_agree(console: Console, page: Page, who: Who) -> bool:
    found = await console.ask(who, "/v1/queue")
    assert await page.get_by_test_id("waiting-count").inner_text() == str(found["waiting"])
    assert await page.get_by_test_id("today-mine").inner_text() == str(sum(found["mine"].values()))
    assert await page.get_by_test_id("today-all").inner_text() == str(sum(found["today"].values()))
    return True


@pytest.mark.timeout(DRAIN_SECONDS + 120)
async def test_two_moderators_drain_the_queue_by_keyboard_and_every_key_is_a_decision(shift: Console) -> None:
    drain = Drain()
    async with shift.page("ana", QUEUE) as ana, shift.page("ben", QUEUE, color_scheme="light") as ben:
        await front(ana)
        await front(ben)
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await asyncio.gather(drain.work(ana, "Ana"), drain.work(ben, "Ben"))
        except TimeoutError:
            stuck = [str(await page.evaluate(FRONT)) for page in (ana, ben)]
            pytest.fail(
                f"{len(drain.settled)} settled; in front {stuck}, pressed {drain.of(stuck)}, published "
                f"{[told(one) for one in await decisions_of(shift) if one.key in stuck]}, "
                f"said {[await page.locator('.notices').inner_text() for page in (ana, ben)]}"
            )

        async def drained() -> bool:
            # Both in one look: an image that one of them took back may still come to the other.
            return all([await nothing_waits(page) for page in (ana, ben)])

        await eventually(drained, 30)
        both = {key for key, names in drain.shown.items() if len(names) > 1}
        # What was skipped, and what somebody took back, waits again: for everybody.
        assert both <= drain.skipped | drain.undone, "an image was shown to two people"
        assert len(drain.shown) == FLAGGED_IMAGES and set(ODD_KEYS) <= drain.settled | _unflagged(shift)

        async def published() -> bool:
            made = await decisions_of(shift)
            assert Counter(told(one) for one in made) == Counter(drain.pressed)
            return True

        await eventually(published, 20, every_seconds=0.3)
        await eventually(lambda: counts_agree(shift, ana, "ana"), 20, every_seconds=0.3)
        await eventually(lambda: counts_agree(shift, ben, "ben"), 20, every_seconds=0.3)
    kinds = Counter(decision for _, _, decision, _, undo in drain.pressed if not undo)
    # What is taken back is no longer counted, and taking it back is no skip.
    kinds["approve"] -= len(drain.undone)
    assert (await shift.ask("olga", "/v1/queue"))["today"] == dict(kinds)
    await eventually(lambda: _labelled(shift), 30, every_seconds=0.3)


def _unflagged(console: Console) -> set[str]:
    return {one.key for one in console.listings if one.flag is None}


async def _labelled(console: Console) -> bool:
    made: dict[str, set[tuple[str, str, float]]] = defaultdict(set)
    for label in await labels_of(console):
        made[label.decision_id].add((label.model, label.label, label.value))
        assert label.author in ("Ana", "Ben") and label.source == "moderator"
    expected = {
        one.decision_id: {(label.model, label.label, label.value) for label in one.labels}
        for one in await decisions_of(console)
        if one.labels
    }
    assert made == expected
    values = {(label.model, label.value) for label in await labels_of(console)}
    return {("nsfw", 0.0), ("nsfw", 1.0), ("embedded_text", 0.0), ("embedded_text", 1.0)} <= values


async def refill(console: Console, count: int, seed: int) -> Sequence[str]:
    """Bring in `count` flagged images of other keys, and return these."""
    flagged = [
        one
        for one in listings(console.bucket, console.policy, seed=seed)
        if one.flag is not None and one.key not in ODD_KEYS
    ]
    made = flagged[:count]
    await console.add(made)
    return [one.key for one in made]


@pytest.mark.timeout(200)
async def test_work_goes_on_through_a_service_that_is_killed_and_started_again(shift: Console) -> None:
    """Guarantee: what a moderator decided while the service was away arrives once, and the page says that it waits."""
    keys = await refill(shift, 8, seed=21)
    before = {one.decision_id for one in await decisions_of(shift)}
    async with shift.page("ana", QUEUE) as page:
        shift.complaint.excuse("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "50[34]")
        first = await front(page)
        await shift.kill_api()
        await page.keyboard.press("a")
        second = await front(page, other_than=first)
        await page.keyboard.press("3")
        await expect(page.get_by_test_id("sending")).to_have_text("2 decisions wait to be sent", timeout=20_000)
        shift.start_api()
        await shift.ready()
        await expect(page.get_by_test_id("sending")).to_have_text("", timeout=20_000)
        for _ in range(len(keys) - 2):
            await front(page)
            await page.keyboard.press("a")
        await expect(page.get_by_test_id("queue-empty")).to_contain_text("Nothing waits", timeout=30_000)

        async def all_there() -> bool:
            made = [one for one in await decisions_of(shift) if one.decision_id not in before]
            assert sorted(one.key for one in made) == sorted(keys)
            verbs = {one.key: one.decision for one in made}
            assert (verbs[first], verbs[second]) == ("approve", "reject")
            return True

        await eventually(all_there, 30, every_seconds=0.3)


@pytest.mark.timeout(200)
async def test_work_goes_on_when_redis_answers_again(shift: Console, stack: LocalStack) -> None:
    """Guarantee: a frozen Redis is said in words; the decision made meanwhile is kept and sent by itself."""
    keys = await refill(shift, 3, seed=22)
    before = {one.decision_id for one in await decisions_of(shift)}
    async with shift.page("ben", QUEUE) as page:
        shift.complaint.excuse("50[34]", "429")
        first = await front(page)
        stack.pause(REDIS)
        try:
            await page.keyboard.press("r")
            await expect(page.get_by_test_id("sending")).to_have_text("1 decision waits to be sent", timeout=40_000)
            # To another page of the console: the decision goes along.
            await page.get_by_test_id("nav-flagged").click()
            await expect(page.get_by_test_id("flagged-broken")).to_contain_text("Try again", timeout=40_000)
        finally:
            stack.resume(REDIS)
        await page.get_by_role("button", name="Try again").click()
        # Tiles are read again every 15 seconds; the decision may come after the first reading.
        await expect(page.get_by_test_id("flagged-tile")).to_have_count(len(keys) - 1, timeout=40_000)

        async def arrived() -> bool:
            made = [one for one in await decisions_of(shift) if one.decision_id not in before]
            assert [(one.key, one.decision) for one in made] == [(first, "reject")]
            return True

        await eventually(arrived, 30, every_seconds=0.3)
