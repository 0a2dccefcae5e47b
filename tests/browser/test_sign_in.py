"""Signing in to the console: by key, by link, and in words when it fails."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.support.api.console import Console

pytestmark = [pytest.mark.services, pytest.mark.asyncio(loop_scope="session")]


async def test_a_key_opens_the_queue_and_signing_out_closes_it(console: Console) -> None:
    async with console.page(None) as page:
        await page.get_by_test_id("signin-key").fill(console.keys["ana"])
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{console.origin}/console/queue")
        await expect(page.get_by_test_id("who")).to_have_text("Ana")
        await page.get_by_test_id("signout").click()
        await expect(page.get_by_test_id("signin-key")).to_be_focused()
        console.complaint.excuse(r"401")
        await page.goto("/console/queue")
        await expect(page.get_by_test_id("signin-key")).to_be_visible()


async def test_a_link_signs_in_and_its_key_is_seen_by_no_server_and_left_in_no_address(console: Console) -> None:
    async with console.page("ana") as page:
        await expect(page).to_have_url(f"{console.origin}/console/queue")
        secret = console.keys["ana"].rpartition("_")[2]
        assert not [one for one in console.complaint.requests if secret in one]
        kept = await page.evaluate(
            "JSON.stringify([location.href, {...localStorage}, {...sessionStorage}, document.cookie])"
        )
        assert secret not in kept
        await page.go_back()
        assert secret not in page.url


async def test_the_address_that_was_asked_for_opens_after_signing_in(console: Console) -> None:
    async with console.page(None) as page:
        console.complaint.excuse(r"401")
        await page.goto("/console/search?q=images%2Fa%20b.jpg")
        await page.get_by_test_id("signin-key").fill(console.keys["ruth"])
        console.complaint.excuse(r"404")
        await page.get_by_test_id("signin-go").click()
        await expect(page.get_by_test_id("search-input")).to_have_value("images/a b.jpg")


@pytest.mark.parametrize("wrong", ["slk_0000000000000000_nothing", "not a key"])
async def test_a_wrong_key_is_said_in_words_and_may_be_corrected_at_once(console: Console, wrong: str) -> None:
    async with console.page(None) as page:
        console.complaint.excuse(r"401")
        await page.get_by_test_id("signin-key").fill(wrong)
        await page.get_by_test_id("signin-go").click()
        await expect(page.get_by_test_id("signin-error")).to_contain_text("This key is not known")
        await expect(page.get_by_test_id("signin-key")).to_be_focused()
        await page.keyboard.type(console.keys["ruth"])
        await page.keyboard.press("Enter")
        await expect(page.get_by_test_id("who")).to_have_text("Ruth")


async def test_a_link_with_an_old_key_says_so(console: Console) -> None:
    async with console.page(None) as page:
        console.complaint.excuse(r"401")
        await page.goto("/console#key=slk_0000000000000000_nothing")
        await expect(page.get_by_test_id("signin-error")).to_contain_text("The key in the link is not known")
        assert "#" not in page.url


async def test_a_key_without_the_scope_sees_no_queue_and_learns_why(console: Console) -> None:
    async with console.page("ruth") as page:
        await expect(page).to_have_url(f"{console.origin}/console/search")
        for hidden in ("nav-queue", "nav-flagged", "nav-operations"):
            await expect(page.get_by_test_id(hidden)).to_have_count(0)
        await expect(page.get_by_test_id("score-no-scope")).to_be_visible()
        for path, scope in (("queue", "moderate"), ("flagged", "moderate"), ("operations", "admin")):
            await page.goto(f"/console/{path}")
            await expect(page.get_by_test_id("no-scope")).to_contain_text(f"needs the scope “{scope}”")
        assert not [one for one in console.complaint.requests if "/v1/queue" in one or "/v1/operations" in one]
