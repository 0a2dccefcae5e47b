"""The other pages, and what holds for all: figures that agree, the keyboard, contrast in both themes, a telephone."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.async_api import Locator, Page, expect

from tests.support.api.browser import PHONE
from tests.support.api.console import Console
from tests.support.api.page_audit import contrast, structure, tab_through
from tests.support.eventually import eventually
from tests.support.marketplace import BLOCKED, BROKEN, FLAGGED_IMAGES, NOTIFIED, REVIEWED, traffic

pytestmark = [pytest.mark.services, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]
TOO_WIDE = """(width) => [...document.querySelectorAll("body *")]
  .filter((node) => node.getBoundingClientRect().right > width + 1)
  .map((node) => node.outerHTML.slice(0, 90)).slice(0, 12)"""
LOOK = "node => getComputedStyle(node).filter"
PAGES = ("queue", "flagged", "search", "image", "operations")
# Of each page, what shows that it is filled.
FILLED = {
    "queue": "[data-testid=queue-key]",
    "flagged": "[data-testid=flagged-tile] img",
    "search": "[data-testid=search-found]",
    "image": "[data-testid=image-history] strong",
    "operations": "[data-testid=op-lanes] strong",
}


def address(console: Console, page: str) -> str:
    listing = next(one for one in console.listings if one.flag is not None and one.flag.action == "notify")
    match page:
        case "search":
            return f"/console/search?q=s3://{console.bucket}/{listing.key}"
        case "image":
            return f"/console/image?bucket={console.bucket}&key={listing.key}"
        case _:
            return f"/console/{page}"


async def filled(console: Console, page: Page, name: str) -> None:
    await page.locator(FILLED[name]).first.wait_for(timeout=30_000)
    console.complaint.excuse(r"422.*/preview")


async def test_the_grid_shows_what_waits_in_order_filters_it_and_says_who_looks_at_it(console: Console) -> None:
    async with console.page("ben", "/console/flagged") as page:
        console.complaint.excuse(r"422.*/preview")
        tiles = page.get_by_test_id("flagged-tile")
        await expect(tiles).to_have_count(48)
        status = page.get_by_test_id("flagged-status")
        await expect(status).to_contain_text(f"{FLAGGED_IMAGES} waiting, the most urgent first; the first 48 are shown")
        await page.get_by_test_id("flagged-more").click()
        await expect(tiles).to_have_count(FLAGGED_IMAGES)
        await expect(status).not_to_contain_text("are shown")

        async def same_order() -> bool:
            # Places change with age, so both are asked for anew.
            await page.get_by_test_id("flagged-refresh").click()
            listed = (await console.ask("olga", "/v1/flagged?limit=100"))["images"]
            shown = await page.locator("[data-upload]").evaluate_all(
                "nodes => nodes.map((node) => node.dataset.upload)"
            )
            return bool(shown == [one["image"]["upload_id"] for one in listed])

        await eventually(same_order, 20, every_seconds=0.3)
        for action, count in (("block", BLOCKED), ("review", REVIEWED + BROKEN), ("notify", NOTIFIED)):
            await expect(page.get_by_test_id(f"filter-{action}")).to_contain_text(str(count))
        await page.get_by_test_id("filter-block").click()
        await expect(tiles).to_have_count(REVIEWED + BROKEN + NOTIFIED)
        await page.get_by_test_id("filter-notify").click()
        await expect(tiles).to_have_count(REVIEWED + BROKEN)
        await page.get_by_test_id("filter-block").click()
        await page.get_by_test_id("filter-notify").click()
        async with console.page("ana", "/console/queue") as other:
            await other.get_by_test_id("queue-key").wait_for()
            await page.get_by_test_id("flagged-refresh").click()
            await expect(page.get_by_test_id("leased-by").filter(has_text="with Ana").first).to_be_visible()
            console.complaint.excuse(r"422.*/preview")


async def test_a_tile_is_veiled_until_it_is_held_and_opens_its_image_with_enter(console: Console) -> None:
    async with console.page("ben", "/console/flagged") as page:
        console.complaint.excuse(r"422.*/preview")
        picture = page.locator("[data-testid=flagged-tile] img").first
        await picture.wait_for()
        tile = page.get_by_test_id("flagged-tile").filter(has=page.locator("img")).first
        assert "blur(18px)" in await picture.evaluate(LOOK)
        await tile.focus()
        await page.keyboard.down(" ")
        await eventually(lambda: _is_clear(picture), 5)
        await page.keyboard.up(" ")
        assert "grayscale(1)" in await picture.evaluate(LOOK)
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile(r"/console/image\?"))


async def _is_clear(picture: Locator) -> bool:
    return bool(await picture.evaluate(LOOK) == "none")


async def test_the_operations_page_shows_what_the_service_says(console: Console) -> None:
    await console.publish(traffic(console.bucket, console.policy, 400))
    async with console.page("olga", "/console/operations") as page:

        async def agrees() -> bool:
            told = await console.ask("olga", "/v1/operations")
            outcomes = sum(told["outcomes"].values())
            assert outcomes > 300
            shown = {
                name: await page.get_by_test_id(f"op-{name}").inner_text()
                for name in ("throughput", "cache", "freshness")
            }
            assert shown["throughput"] == f"{told['throughput_per_second']:.1f}".removesuffix(".0")
            assert shown["cache"] == f"{told['cache_hit_ratio'] * 100:.1f}".removesuffix(".0") + " %"
            assert shown["freshness"] == f"{told['freshness']['p50_seconds']:.2f} s"
            bars = await page.get_by_test_id("op-outcomes").locator(".bar-value").all_inner_texts()
            assert bars == [str(told["outcomes"][name]) for name in ("scored", "rejected", "gone")]
            return True

        await eventually(agrees, 40, every_seconds=0.5)
        told = await console.ask("olga", "/v1/operations")
        await expect(page.get_by_test_id("op-dead-open")).to_have_text(str(told["dead_letters"]["open"]))
        assert told["dead_letters"]["open"] == 2
        await expect(page.get_by_test_id("op-lanes").locator("li")).to_have_count(len(told["lanes"]))
        await expect(page.get_by_test_id("op-models").locator("tbody tr")).to_have_count(len(told["models"]))
        await expect(page.get_by_test_id("op-policies")).to_contain_text("default")


@pytest.mark.parametrize("name", PAGES)
async def test_every_page_is_named_ordered_and_reached_by_the_tab_key_alone(console: Console, name: str) -> None:
    async with console.page("olga", address(console, name)) as page:
        await filled(console, page, name)
        assert await structure(page) == []
        assert await tab_through(page) == []


async def test_the_sign_in_is_named_ordered_and_reached_by_the_tab_key_alone(console: Console) -> None:
    async with console.page(None) as page:
        await page.get_by_test_id("signin-key").wait_for()
        assert await structure(page) == []
        assert await tab_through(page) == []


async def test_the_help_holds_the_focus_and_gives_it_back(console: Console) -> None:
    async with console.page("ana", "/console/queue") as page:
        await filled(console, page, "queue")
        await page.get_by_test_id("help").focus()
        await page.keyboard.press("?")
        await page.get_by_test_id("help-dialog").wait_for()
        inside = "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        for _ in range(6):
            await page.keyboard.press("Tab")
            assert await page.evaluate(inside)
        assert await structure(page) == []
        await page.keyboard.press("Escape")
        await expect(page.get_by_test_id("help-dialog")).to_have_count(0)
        await expect(page.get_by_test_id("help")).to_be_focused()


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_every_text_stands_out_from_its_ground(console: Console, theme: Literal["light", "dark"]) -> None:
    async with console.page("olga", color_scheme=theme) as page:
        found = {}
        for name in PAGES:
            await page.goto(address(console, name))
            await filled(console, page, name)
            if name == "operations":
                await page.get_by_test_id("op-dead-letters").locator("summary").click()
            found[name] = await contrast(page)
        assert found == {name: [] for name in PAGES}
    async with console.page(None, color_scheme=theme) as page:
        await page.get_by_test_id("signin-key").wait_for()
        assert await contrast(page) == []


async def test_every_page_fits_a_telephone(console: Console) -> None:
    async with console.page("olga", viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2) as page:
        for name in PAGES:
            await page.goto(address(console, name))
            await filled(console, page, name)
            width = await page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
            assert width <= PHONE["width"], (name, await page.evaluate(TOO_WIDE, PHONE["width"]))
        await page.goto("/console/queue")
        for button in ("approve", "reject", "hold"):
            box = await page.get_by_test_id(button).bounding_box()
            assert box is not None and box["height"] >= 44 and box["y"] + box["height"] <= PHONE["height"], button
