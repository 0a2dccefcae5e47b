"""The pictures of docs/console.md, taken of what the other tests test. `make screenshots` keeps them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import FilePayload, Page, expect

from tests.browser.test_pages import address, filled
from tests.support.api.browser import PHONE
from tests.support.api.console import Console, Who, pictures_folder
from tests.support.eventually import eventually
from tests.support.marketplace import offer, traffic

pytestmark = [pytest.mark.services, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]
MOST_BYTES = 300_000
# Those that text lies over: a picture which is shown in a page must be fit for one.
NOTIFY_ONLY = "localStorage.setItem('sightline.queue.actions', '[\"notify\"]')"


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def morning(console: Console) -> None:
    """What Ana and Ben did before: decisions on uploads that nothing flagged, so that the queue stays as it is."""
    await console.publish(traffic(console.bucket, console.policy, 60, seed=12))
    await eventually(lambda: console.ask("ana", f"/v1/images/{console.bucket}/traffic/000059.jpg"), 30)
    verbs = (*("approve",) * 5, "reject", "reject", "approve", "skip")
    for number in range(60):
        who: Who = "ben" if number % 5 == 1 else "ana"
        decision = {"decision_id": f"morning-{number}", "decision": verbs[number % len(verbs)], "reason": ""}
        await console.ask(
            who, "/v1/decisions", {**decision, "bucket": console.bucket, "key": f"traffic/{number:06d}.jpg"}
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures_folder(tmp_path)


async def keep(page: Page, folder: Path, name: str) -> None:
    """Write what the page shows to `name`.webp."""
    await page.evaluate("document.fonts.ready")
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(await page.screenshot(animations="disabled"))) as shot:
        shot.convert("RGB").save(buffer, "WEBP", quality=90, method=6)
    (folder / f"{name}.webp").write_bytes(buffer.getvalue())
    assert len(buffer.getvalue()) < MOST_BYTES


async def test_the_queue_with_its_picture_held_open(console: Console, folder: Path) -> None:
    async with console.page("ana", color_scheme="dark") as page:
        await page.evaluate(NOTIFY_ONLY)
        await page.goto("/console/queue")
        await page.get_by_test_id("queue-preview").wait_for()
        await expect(page.get_by_test_id("waiting-count")).not_to_have_text("–")
        await page.keyboard.down(" ")
        await keep(page, folder, "queue")
        await page.keyboard.up(" ")


async def test_the_queue_on_a_telephone(console: Console, folder: Path) -> None:
    options: dict[str, Any] = {"viewport": PHONE, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    async with console.page("ana", color_scheme="light", **options) as page:
        await page.evaluate(NOTIFY_ONLY)
        await page.goto("/console/queue")
        await page.get_by_test_id("queue-preview").wait_for()
        await expect(page.get_by_test_id("waiting-count")).not_to_have_text("–")
        await keep(page, folder, "phone")


async def test_the_grid(console: Console, folder: Path) -> None:
    async with (
        console.page("ana", "/console/flagged", color_scheme="light") as page,
        console.page("ben", "/console/queue"),
    ):
        console.complaints[-1].excuse(r"422.*/preview")
        console.complaints[-2].excuse(r"422.*/preview")
        await page.locator("[data-testid=flagged-tile]").first.wait_for()
        await page.get_by_test_id("flagged-refresh").click()
        # All that is in sight has its picture, or says why not.
        await expect(page.locator(".veil.is-loading").locator("visible=true").first).not_to_be_in_viewport()
        await keep(page, folder, "flagged")


async def test_a_dropped_picture(console: Console, folder: Path) -> None:
    async with console.page("ana", "/console/search", color_scheme="light") as page:
        picture = FilePayload(name="summer-sale.jpg", mimeType="image/jpeg", buffer=offer(31))
        await page.get_by_test_id("file-input").set_input_files([picture])
        await expect(page.get_by_test_id("score-verdict")).to_be_visible(timeout=60_000)
        await page.evaluate("document.querySelector('[data-testid=dropzone]').scrollIntoView()")
        await keep(page, folder, "search")


async def test_the_page_of_an_image(console: Console, folder: Path) -> None:
    listing = [one for one in console.listings if one.flag is not None and one.flag.action == "notify"][3]
    place = {"bucket": console.bucket, "key": listing.key}
    first = {"decision_id": "picture-1", "decision": "reject", "reason": "contact_details", **place}
    made = await console.ask("ben", "/v1/decisions", first)
    back = {"decision_id": "picture-2", "decision": "skip", "reason": "undo", "reverses": made["decision_id"], **place}
    try:
        async with console.page("ana", f"/console/image?bucket={console.bucket}&key={listing.key}") as page:
            await filled(console, page, "image")
            await expect(page.get_by_test_id("image-history").locator("strong").first).to_contain_text(
                "Rejected by Ben"
            )
            await page.get_by_test_id("image-preview").wait_for()
            await page.keyboard.down(" ")
            await keep(page, folder, "image")
            await page.keyboard.up(" ")
    finally:
        await console.ask("ben", "/v1/decisions", back)


async def test_operations(console: Console, folder: Path) -> None:
    # With the agent that reads the outcomes, too: nothing lags.
    console.pipeline.start_workers(("moderate",))
    await console.publish(traffic(console.bucket, console.policy, 1200))
    async with console.page("olga", address(console, "operations"), color_scheme="dark") as page:
        await filled(console, page, "operations")
        await expect(page.get_by_test_id("op-throughput")).not_to_have_text("0")
        # All of it is counted, and the agents have done with it.
        await expect(page.get_by_test_id("op-lanes").locator("[data-level=fair], [data-level=bad]")).to_have_count(
            0, timeout=60_000
        )
        await keep(page, folder, "operations")
