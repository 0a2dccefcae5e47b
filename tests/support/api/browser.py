"""A real browser for tests: Chromium, found or installed; pages that fail their test when they complain."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request, async_playwright

from tests.support.stack import skip_without_services

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# A package of some 100 MB and its libraries.
_INSTALL_SECONDS: Final = 600
# What a page asked for and no longer wants, because it was left.
_GIVEN_UP: Final = "net::ERR_ABORTED"
_DESK: Final = {"width": 1440, "height": 900}
PHONE: Final = {"width": 360, "height": 740}


def find_browser(bundled: str | None = None) -> str | None:
    """Return where a Chromium is: SIGHTLINE_TEST_BROWSER, one on PATH, or `bundled` where playwright installed it."""
    named = os.environ.get("SIGHTLINE_TEST_BROWSER")
    if named:
        return named
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    return found or (bundled if bundled and Path(bundled).is_file() else None)


def install_browser(bundled: str | None = None) -> str | None:
    """Return a Chromium, installing it where there is none: by apt-get as root on Debian's kind, or by playwright."""
    # Test processes that begin together must not install it twice.
    with (Path(tempfile.gettempdir()) / f"sightline-browser-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = find_browser(bundled)
        if found:
            return found
        for commands in _installers():
            try:
                for command in commands:
                    subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_SECONDS, env=_quiet())
            except (OSError, subprocess.SubprocessError):
                continue
            if (found := find_browser(bundled)) is not None:
                return found
        return None


def _installers() -> Iterator[tuple[tuple[str, ...], ...]]:
    """Yield ways to come by a Chromium, each some commands; where one fails the next may do."""
    if os.getuid() == 0 and shutil.which("apt-get"):
        packages = ("chromium", "fonts-liberation")
        install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)
        yield (("apt-get", "update", "-qq"), install)
    yield ((sys.executable, "-m", "playwright", "install", "chromium"),)


def _quiet() -> dict[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Yield a headless Chromium with an empty profile of its own; skips where none is and none can be installed."""
    async with async_playwright() as playwright:
        path = await _found(playwright)
        arguments = [*_ARGUMENTS, *(("--no-sandbox",) if os.getuid() == 0 else ())]
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


async def _found(playwright: Playwright) -> str:
    bundled = playwright.chromium.executable_path
    path = find_browser(bundled) or await asyncio.to_thread(install_browser, bundled)
    if path is None:
        skip_without_services(
            "there is no Chromium: install the package `chromium`, or name one in SIGHTLINE_TEST_BROWSER"
        )
        raise AssertionError("unreachable")
    return path


# Without slots: playwright notes its wrappers on the object whose methods listen.
@dataclass
class Complaints:
    """What pages complained of: errors, warnings, requests that failed or went elsewhere."""

    origin: str
    found: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _expected: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Listen to every page of `context`."""
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.found.append(f"page error: {error.error}"))

    def excuse(self, *patterns: str) -> None:
        """Excuse complaints that match, for the whole test."""
        self._expected += patterns

    def check(self) -> None:
        """Raise AssertionError for anything that nothing excused."""
        left = [one for one in self.found if not any(re.search(pattern, one) for pattern in self._expected)]
        assert not left, "the pages complained:\n" + "\n".join(left)

    def _request(self, request: Request) -> None:
        self.requests.append(f"{request.method} {request.url}")
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.found.append(f"request to a stranger: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != _GIVEN_UP:
            self.found.append(f"request failed: {request.method} {request.url} {request.failure}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.found.append(f"console {message.type}: {message.text} ({message.location.get('url', '')})")


@asynccontextmanager
async def open_page(browser: Browser, origin: str, **options: Any) -> AsyncIterator[tuple[Page, Complaints]]:
    """Yield a page in a context of its own, and its complaints, which are checked when the block ends well."""
    wanted: dict[str, Any] = {"viewport": _DESK, "locale": "en-GB", "timezone_id": "UTC", "color_scheme": "dark"}
    context = await browser.new_context(base_url=origin, **{**wanted, **options})
    complaints = Complaints(origin)
    complaints.watch(context)
    try:
        page = await context.new_page()
        page.set_default_timeout(15_000)
        yield page, complaints
        # A last look at what the page still logs.
        await page.evaluate("0")
    finally:
        await context.close()
    complaints.check()
