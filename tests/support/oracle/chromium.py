"""What Chromium shows of a file: the element's pixels after loading, and the composited frames of an animation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from playwright.async_api import Browser, Page, Route

from tests.support.oracle.means import SQUARES

# Requests to it are answered by the test. ImageDecoder exists in secure contexts only, and localhost counts as one.
_ORIGIN: Final = "http://localhost"
_SCRIPT: Final = Path(__file__).with_name("shown.js")
_PAGE: Final = "<!doctype html><title>oracle</title>"

Look = Mapping[str, Any]
"""The means by ground."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What the browser shows: `look` of the element is None where it shows nothing.

    `frames` counts those of the file, 0 where the browser has no decoder for its media type. `decoded`: whether
    HTMLImageElement.decode() succeeds; it refuses pictures that are cut off, which are shown all the same.
    """

    width: int
    height: int
    decoded: bool
    look: Look | None
    frames: int
    frame_looks: Mapping[int, Look | None]


class Oracle:
    """Shows files in one page, one after another."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._files: dict[str, tuple[bytes, str]] = {}

    async def start(self) -> None:
        """Open the page; its requests are answered from memory."""
        await self._page.route("**/*", self._answer)
        await self._page.goto(f"{_ORIGIN}/")
        await self._page.add_script_tag(content=_SCRIPT.read_text())

    async def show(self, content: bytes, media_type: str, frames: Sequence[int] = (0, -1)) -> Shown:
        """Return what is shown of `content`; `frames` are those wanted of an animation, -1 is the last."""
        url = f"{_ORIGIN}/file/{len(self._files)}"
        self._files[url] = (content, media_type)
        element = await self._page.evaluate("url => oracle.element(url)", url)
        found = await self._page.evaluate(
            "([url, type, wanted]) => oracle.frames(url, type, wanted)", [url, media_type, list(frames)]
        )
        self._files[url] = (b"", media_type)
        return Shown(
            width=element["width"],
            height=element["height"],
            decoded=element["decoded"],
            look=_look(element["look"]),
            frames=found["count"],
            frame_looks={int(index): _look(look) for index, look in found["looks"].items()},
        )

    async def _answer(self, route: Route) -> None:
        content, media_type = self._files.get(route.request.url, (_PAGE.encode(), "text/html"))
        # A file that is not there any more would be shown as empty: better to fail loudly.
        await route.fulfill(body=content, content_type=media_type)


def _look(found: Any) -> Look | None:
    if found is None:
        return None
    return {ground: np.array(means).reshape(SQUARES, SQUARES, 3) for ground, means in found.items()}


@asynccontextmanager
async def oracle_page(browser: Browser) -> AsyncIterator[Oracle]:
    """Yield an oracle in a context of its own."""
    context = await browser.new_context()
    try:
        oracle = Oracle(await context.new_page())
        await oracle.start()
        yield oracle
    finally:
        await context.close()
