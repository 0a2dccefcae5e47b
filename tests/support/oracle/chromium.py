"""Rendering of a file in Chromium: the element's pixels after loading, and the composited frames of an animation."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from playwright.async_api import Browser, BrowserContext, Error, FloatRect, Page

from tests.support.oracle.file_server import FileServer
from tests.support.oracle.means import GROUNDS, SQUARES, means

_SCRIPT: Final = Path(__file__).with_name("shown.js")
_CORNER: Final = FloatRect(x=0, y=0, width=1, height=1)

Look = Mapping[str, Any]
"""The means by ground."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Rendering of a file: `look` of the element is None where the browser shows nothing.

    `frames` counts those of the file, 0 where the browser has no decoder for its media type. `frame_looks`: the frames
    of an animation that were asked for; None for one that cannot be decoded.
    """

    width: int
    height: int
    look: Look | None
    frames: int
    frame_looks: Mapping[int, Look | None]


class Oracle:
    """Shows files in one page, one after another."""

    def __init__(self, context: BrowserContext, page: Page, files: FileServer, origin: str) -> None:
        self._context = context
        self._page = page
        self._files = files
        self._origin = origin
        self._numbers = itertools.count()

    async def start(self) -> None:
        """Open the page that shows files."""
        # ImageDecoder exists in secure contexts only; 127.0.0.1 counts as one.
        await self._page.goto(f"{self._origin}/")
        await self._page.add_script_tag(content=_SCRIPT.read_text())

    async def show(self, content: bytes, media_type: str, frames: Sequence[int] = (0, -1)) -> Shown:
        """Return what is shown of `content`; `frames` are those wanted of an animation, -1 is the last."""
        path = f"/file/{next(self._numbers)}"
        self._files.put(path, content, media_type)
        element = await self._evaluate("path => oracle.element(path)", path)
        found = await self._evaluate(
            "([path, type, wanted]) => oracle.frames(path, type, wanted)", [path, media_type, list(frames)]
        )
        self._files.remove(path)
        return Shown(
            width=element["width"],
            height=element["height"],
            look=_look(element["look"]),
            frames=found["count"],
            frame_looks={int(index): _look(look) for index, look in found["looks"].items()},
        )

    async def _evaluate(self, script: str, argument: Any) -> Any:
        try:
            return await self._page.evaluate(script, argument)
        except Error:
            # A file that crashes the page fails its own test, not those after it.
            self._page = await self._context.new_page()
            await self.start()
            raise

    async def show_in_pieces(self, content: bytes, media_type: str) -> Look:
        """Return what the page shows of a file that arrives in two pieces; it has painted the first before the second.

        Chromium keeps what it has painted of a WebP file that is cut off, and shows nothing if that arrives at once.
        """
        return {ground: await self._painted(content, media_type, level) for ground, level in GROUNDS.items()}

    async def _painted(self, content: bytes, media_type: str, level: int) -> Any:
        path, hold = f"/file/{next(self._numbers)}", asyncio.Event()
        self._files.put(path, content, media_type, hold)
        await self._page.evaluate("([path, level]) => oracle.place(path, level)", [path, level])
        # A screenshot makes the page paint what it has.
        await self._page.screenshot(clip=_CORNER)
        hold.set()
        width, height = await self._page.evaluate("oracle.placed()")
        clip = FloatRect(x=0, y=0, width=width, height=height)
        shot = await self._page.screenshot(clip=clip)
        await self._page.evaluate("oracle.clear()")
        self._files.remove(path)
        with Image.open(io.BytesIO(shot)) as image:
            return means(np.asarray(image.convert("RGB"), dtype=np.float64))


def _look(found: Any) -> Look | None:
    if found is None:
        return None
    return {ground: np.array(means).reshape(SQUARES, SQUARES, 3) for ground, means in found.items()}


@asynccontextmanager
async def oracle_page(browser: Browser) -> AsyncIterator[Oracle]:
    """Yield an oracle in a context of its own."""
    context = await browser.new_context()
    files = FileServer()
    try:
        oracle = Oracle(context, await context.new_page(), files, await files.start())
        await oracle.start()
        yield oracle
    finally:
        await context.close()
        await files.stop()
