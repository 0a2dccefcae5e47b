"""The oracle of docs/images.md: what Chromium shows is scored as it shows it, or goes to a person.

Every file of the corpus is shown by Chromium and decoded by the decoder. `make oracle` writes the table.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from app.domain.policy import Policy
from tests.support.corpus.case import Case
from tests.support.corpus.disagreements import DISAGREEMENTS
from tests.support.corpus.every import every_case
from tests.support.oracle import table
from tests.support.oracle.chromium import Oracle, Shown, oracle_page
from tests.support.oracle.compare import Comparison, compare, shows_anything
from tests.support.oracle.verdict import Judged, default_policy, judge, new_decoder

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

CASES: Final = {case.name: case for case in every_case()}
# Name of the variable with the page to which the table is written.
_WRITE: Final = "ORACLE_PAGE"


class Bench:
    """Shows and judges cases, each once."""

    def __init__(self, oracle: Oracle, policy: Policy) -> None:
        self._oracle = oracle
        self._policy = policy
        self._decoder = new_decoder()
        self._rows: dict[str, Comparison] = {}

    async def both(self, case: Case) -> tuple[Shown, Judged]:
        content = case.build()
        judged = judge(self._decoder, self._policy, content)
        shown = await self._oracle.show(content, case.media_type, [*sorted({0, *judged.looks}), -1])
        if case.cut and shown.look is not None and not shows_anything(shown):
            shown = dataclasses.replace(shown, look=await self._oracle.show_in_pieces(content, case.media_type))
        return shown, judged

    async def row(self, case: Case) -> Comparison:
        if case.name not in self._rows:
            self._rows[case.name] = compare(case, *await self.both(case))
        return self._rows[case.name]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bench(browser: Browser) -> AsyncIterator[Bench]:
    async with oracle_page(browser) as oracle:
        yield Bench(oracle, default_policy())


@pytest.mark.parametrize("name", CASES)
async def test_what_is_shown_is_scored_or_reviewed(bench: Bench, name: str) -> None:
    row = await bench.row(CASES[name])
    assert not row.problem, f"{name}: {row.problem} (shown: {row.shown}, scored: {row.scored})"


@pytest.mark.parametrize(
    "name",
    [
        "jpeg, plain",
        "png, plain",
        "apng, two frames",
        "gif, plain",
        "webp, lossy",
        "avif, plain",
        "bmp, plain, 24 bit",
        "ico, PNG",
    ],
)
async def test_ordinary_pictures_are_shown_and_scored(bench: Bench, name: str) -> None:
    """The rule holds trivially for a browser that shows nothing, and for a decoder that rejects everything."""
    row = await bench.row(CASES[name])
    assert (row.shown, row.scored) == ("yes", "yes")


def test_disagreements_are_about_cases() -> None:
    assert set(DISAGREEMENTS) <= set(CASES)


@pytest.mark.timeout(600)
async def test_the_table_in_the_docs_is_this_one(bench: Bench) -> None:
    rows = [await bench.row(case) for case in CASES.values()]
    if page := os.environ.get(_WRITE):
        table.write(Path(page), rows)
        return
    assert table.found_in(table.PAGE.read_text()) == table.written(rows), "run `make oracle`, and read what it changes"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("turned", "differs by"),
        ("another size", "another size"),
        ("no last frame", "the last frame"),
        ("wrong last frame", "differs by"),
        ("not held", "neither scored nor sent to a person"),
    ],
)
async def test_a_wrong_decoder_is_noticed(bench: Bench, wrong: str, problem: str) -> None:
    case = CASES["apng, two frames"]
    shown, judged = await bench.both(case)
    assert not compare(case, shown, judged).problem
    assert problem in compare(case, shown, _spoilt(judged, wrong)).problem


def _spoilt(judged: Judged, wrong: str) -> Judged:
    looks = dict(judged.looks)
    match wrong:
        case "turned":
            looks[0] = {ground: means[:, ::-1] for ground, means in looks[0].items()}
            return dataclasses.replace(judged, looks=looks)
        case "another size":
            return dataclasses.replace(judged, width=judged.height, height=judged.width)
        case "no last frame":
            return dataclasses.replace(judged, looks={0: looks[0]})
        case "wrong last frame":
            return dataclasses.replace(judged, looks=dict.fromkeys(looks, looks[0]))
        case _:
            return dataclasses.replace(judged, looks={}, reason="truncated", held=False)
