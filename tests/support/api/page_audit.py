"""What a page owes to those who use it otherwise than its makers do: names, landmarks, contrast, focus."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from playwright.async_api import Page

# Texts of WCAG's AA; what is disabled is exempt there, too.
LEAST_CONTRAST: Final = 4.5
_SCRIPT: Final = Path(__file__).with_suffix(".js")


async def structure(page: Page) -> list[str]:
    """Return what is wrong with names, headings, landmarks and references."""
    return list(await _ask(page, "structure"))


async def contrast(page: Page) -> list[str]:
    """Return the visible texts whose contrast with what lies below them is too small."""
    return list(await _ask(page, "contrast", LEAST_CONTRAST))


async def tab_through(page: Page, most: int = 200) -> list[str]:
    """Press Tab until the page is left again; return what is wrong on the way, also what was never reached."""
    wrong: list[str] = []
    stops: list[int] = []
    left = False
    for _ in range(most):
        await page.keyboard.press("Tab")
        found = await _ask(page, "focus")
        if found is None and not left:
            # A page that begins in its middle has more before it.
            left = True
            continue
        if found is None or found["number"] in stops[:1]:
            return wrong + [f"never reached: {one}" for one in await _ask(page, "reachable")]
        if found["number"] in stops:
            return [*wrong, f"a trap at {found['what']}"]
        stops.append(found["number"])
        if not found["ring"]:
            wrong.append(f"focus does not show: {found['what']}")
        if not found["seen"]:
            wrong.append(f"focus is out of sight: {found['what']}")
    return [*wrong, f"no end after {most} stops"]


async def _ask(page: Page, question: str, argument: Any = None) -> Any:
    return await page.evaluate(f"(argument) => ({_script()}).{question}(argument)", argument)


def _script() -> str:
    # Without the comment before the expression.
    return _SCRIPT.read_text(encoding="utf-8").partition("\n")[2].strip()
