"""Finding an image by its key, the page of one image, and scoring a file of one's own by the real models."""

from __future__ import annotations

import base64
import io
import re
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from PIL import Image
from playwright.async_api import FilePayload, Page, expect

from app.domain.identity import image_key
from app.topics import PREDICTIONS, REMOVED
from tests.support.api.console import Console
from tests.support.eventually import eventually
from tests.support.marketplace import ODD_KEYS, Listing, offer, photograph
from tests.support.outcomes import removal

pytestmark = [pytest.mark.services, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]
MODELS = ("Nudity", "Category", "Photo quality", "Text over the picture")


def search(key: str) -> str:
    return f"/console/search?{urlencode({'q': f's3://{key}'})}"


def image(bucket: str, key: str) -> str:
    return f"/console/image?{urlencode({'bucket': bucket, 'key': key})}"


def reviewed(console: Console) -> Listing:
    """A flagged image with a picture, of which tests take other ones each."""
    return next(one for one in reversed(console.listings) if one.flag is not None and one.key not in ODD_KEYS)


async def drop(page: Page, name: str, body: bytes, kind: str = "image/jpeg") -> None:
    """Drop a file onto the page as the desktop does it."""
    await page.evaluate(
        """async ([name, kind, base64]) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: kind }));
            const zone = document.querySelector("[data-testid=dropzone]");
            for (const event of ["dragenter", "dragover", "drop"])
              zone.dispatchEvent(new DragEvent(event, { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        [name, kind, base64.b64encode(body).decode()],
    )


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_an_image_is_found_by_any_key_and_its_key_is_text(console: Console, key: str) -> None:
    async with console.page("ana", search(f"{console.bucket}/{key}")) as page:
        found = page.get_by_test_id("search-found")
        await expect(found.locator("bdi").first).to_have_text(key)
        await found.get_by_test_id("search-open").click()
        await expect(page.locator("h1 bdi")).to_have_text(key)
        await expect(page.get_by_test_id("image-outcome")).to_have_text(re.compile("Scored|Rejected"))
        await expect(page.get_by_test_id("publishable")).to_have_text(re.compile("^(yes|no)$"))
        await expect(page.get_by_test_id("image-history").locator("strong").first).to_have_text(
            re.compile("Scored|Rejected")
        )
        assert await page.locator("main img[src=x], main script").count() == 0
        assert await page.title() != "owned"
        # Its picture, or why there is none.
        await page.get_by_test_id("image-preview").or_(page.get_by_test_id("no-preview")).first.wait_for()
        console.complaint.excuse(r"422.*/preview")


async def test_an_unknown_key_and_half_an_address_are_said_in_words(console: Console) -> None:
    async with console.page("ruth", search(f"{console.bucket}/no/such.jpg")) as page:
        console.complaint.excuse(r"404")
        await expect(page.get_by_test_id("search-error")).to_contain_text("No image is known by this name")
        await page.get_by_test_id("search-input").fill("nothing")
        await page.get_by_test_id("search-go").click()
        await expect(page.get_by_test_id("search-error")).to_contain_text("Give a bucket and a key")


async def test_an_upload_under_way_is_shown_when_its_outcome_comes_and_its_removal_is_said(console: Console) -> None:
    now_ms = time.time_ns() // 1_000_000
    key = "listings/maple-and-co/new.jpg"
    outcome = replace(
        reviewed(console).outcome, key=key, upload_id=f"upload-{now_ms}", event_time_ms=now_ms, identified_at_ms=now_ms,
        scored_at_ms=now_ms + 500, sequencer=f"{now_ms:012X}0000", order_key=f"{now_ms:012X}".ljust(32, "0"),
    )  # fmt: skip
    await console.announce(Listing(outcome, None, b""))
    async with console.page("ruth", search(f"{console.bucket}/{key}")) as page:
        await expect(page.get_by_test_id("search-under-way")).to_contain_text("not scored yet")
        codec = console.pipeline.codec
        await console.publish([(PREDICTIONS, image_key(console.bucket, key), codec.encode(outcome), now_ms)])
        await expect(page.get_by_test_id("search-found")).to_contain_text("Scored", timeout=30_000)
        later = now_ms + 1000
        gone = removal(
            bucket=console.bucket, key=key, event_time_ms=later,
            sequencer=f"{later:012X}0000", order_key=f"{later:012X}".ljust(32, "0"),
        )  # fmt: skip
        console.complaint.excuse(r"404")
        await console.publish([(REMOVED, image_key(console.bucket, key), codec.encode(gone), later)])

        async def said() -> bool:
            await page.get_by_test_id("search-go").click()
            await expect(page.get_by_test_id("search-error")).to_contain_text("was removed", timeout=2_000)
            return True

        await eventually(said, 20)
        await page.get_by_role("link", name="Its history").click()
        await expect(page.get_by_test_id("image-problem")).to_contain_text("Removed")


async def test_a_decision_on_the_page_of_an_image_is_told_reversed_and_stays_in_its_history(console: Console) -> None:
    listing = reviewed(console)
    async with console.page("ana", image(console.bucket, listing.key)) as page:
        await expect(page.get_by_test_id("image-decision")).to_have_text("No one has decided yet.")
        await page.get_by_test_id("approve").click()
        await expect(page.get_by_test_id("image-decision")).to_contain_text("Approved by Ana")
        await page.get_by_test_id("reverse").click()
        await expect(page.get_by_test_id("image-decision")).to_contain_text("taken back")
        history = page.get_by_test_id("image-history")
        await expect(history.locator("strong")).to_have_text(["Ana took a decision back", "Approved by Ana", "Scored"])
        await page.get_by_test_id("image-explain").click()
        story = page.get_by_test_id("image-story")
        await expect(story).to_contain_text("Rules of policy default", timeout=30_000)
        for rule in ("nsfw-block", "nsfw-review", "embedded-text", "poor-quality"):
            await expect(story.locator(".story-rules")).to_contain_text(rule)


async def test_a_dropped_picture_is_scored_by_all_models_and_known_the_second_time(console: Console) -> None:
    body = offer(32)
    async with console.page("ana", "/console/search") as page:
        await drop(page, "my <b>dress</b>.jpg", body)
        first = page.get_by_test_id("score-result")
        await expect(first.get_by_test_id("score-verdict")).to_be_visible(timeout=60_000)
        await expect(first.locator(".result-name")).to_have_text("my <b>dress</b>.jpg")
        await expect(first.get_by_test_id("publishable")).to_have_text("yes")
        for model in MODELS:
            await expect(first.locator(".result-scores h3", has_text=model)).to_be_visible()
        await expect(first.locator(".facts").first).to_contain_text("computed afresh")
        await drop(page, "again.jpg", body)
        again = page.get_by_test_id("score-result").first
        await expect(again.locator(".result-name")).to_have_text("again.jpg")
        await expect(again.locator(".facts").first).to_contain_text("from cache", timeout=30_000)
        verdict = await page.get_by_test_id("score-result").last.get_by_test_id("score-verdict").inner_text()
        await expect(again.get_by_test_id("score-verdict")).to_have_text(verdict)


async def test_files_that_are_no_pictures_are_refused_in_words(console: Console, tmp_path: Path) -> None:
    async with console.page("ana", "/console/search") as page:
        console.complaint.excuse(
            r"422.*/v1/score", r"413.*/v1/score", r"/v1/score net::ERR_(CONNECTION|HTTP|FAILED)", r"ERR_CONNECTION"
        )
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(photograph(5)[:200])
        page_file = tmp_path / "page.png"
        page_file.write_text("<html><script>document.title='owned'</script>")
        for path, words in (
            (broken, "ends before any of the picture|does not keep to it"),
            (page_file, "Not one of the picture formats"),
        ):
            await page.get_by_test_id("file-input").set_input_files(path)
            await expect(page.get_by_test_id("score-error").first).to_contain_text(re.compile(words), timeout=30_000)
        large = tmp_path / "large.bmp"
        buffer = io.BytesIO()
        Image.new("RGB", (2000, 2100)).save(buffer, "BMP")
        large.write_bytes(buffer.getvalue())
        assert large.stat().st_size > 12_000_000
        await page.get_by_test_id("file-input").set_input_files(large)
        await expect(page.get_by_test_id("score-error").first).to_contain_text(
            "too large: 10 MB is the most", timeout=30_000
        )
        # The page works on.
        await page.get_by_test_id("file-input").set_input_files(
            FilePayload(name="good.jpg", mimeType="image/jpeg", buffer=photograph(6))
        )
        await expect(page.get_by_test_id("score-verdict").first).to_be_visible(timeout=60_000)
        assert await page.title() == "Search · Sightline"
