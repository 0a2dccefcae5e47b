"""One browser for all files, and one console for each file that asks; everything runs in the session's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from app.stack.local import LocalStack
from tests.support.api.browser import running_browser
from tests.support.api.console import Console, running_console


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def console(
    stack: LocalStack, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Console]:
    """A console with the models, whose queue no test empties."""
    async with running_console(
        stack, browser, tmp_path_factory.mktemp("console"), score=True, bucket="marketplace"
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shift(
    stack: LocalStack, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Console]:
    """A console without models whose queue is there to be worked on; leases are short."""
    settings = {"SIGHTLINE_MODERATION_LEASE_SECONDS": "30"}
    folder = tmp_path_factory.mktemp("shift")
    async with running_console(stack, browser, folder, score=False, bucket="shift", settings=settings) as running:
        yield running
