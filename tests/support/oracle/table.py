"""The table of the oracle in docs/images.md, between two markers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from app.settings import ROOT
from tests.support.corpus.case import Closeness
from tests.support.corpus.disagreements import DISAGREEMENTS
from tests.support.oracle.compare import Comparison

PAGE: Final = ROOT / "docs" / "images.md"
_BEGIN: Final = "<!-- oracle: begin (made by `make oracle`) -->\n"
_END: Final = "<!-- oracle: end -->\n"


def written(rows: Iterable[Comparison]) -> str:
    """Return the text between the markers: tolerances, cases in which browsers disagree, and the table."""
    lines = ["", "Largest difference of any of the 16 x 16 means that the test accepts, in levels of 255:", ""]
    lines += [f"- {one.levels}: {one.reason}." for one in Closeness]
    lines += ["", "Where browsers disagree (Chromium 156 and Firefox ESR 153), and the choice:", ""]
    lines += [f"- {name}: {remark}." for name, remark in DISAGREEMENTS.items()]
    lines += ["", "| format | oddity | shown | scored | difference |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.case.format} | {row.case.oddity} | {row.shown} | {row.scored} | {row.difference} |" for row in rows
    ]
    return "\n".join([*lines, ""])


def found_in(page: str) -> str:
    """Return what is between the markers of `page`."""
    return page.split(_BEGIN, 1)[1].split(_END, 1)[0]


def replaced(page: str, text: str) -> str:
    """Return `page` with `text` between its markers."""
    before, rest = page.split(_BEGIN, 1)
    return before + _BEGIN + text + _END + rest.split(_END, 1)[1]


def write(path: Path, rows: Iterable[Comparison]) -> None:
    """Write the table into the page at `path`."""
    path.write_text(replaced(path.read_text(), written(rows)))
