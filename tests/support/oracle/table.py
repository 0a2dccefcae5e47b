"""The table of the oracle in docs/images.md, between two markers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from app.settings import ROOT
from tests.support.corpus.case import Closeness
from tests.support.oracle.compare import Comparison

PAGE: Final = ROOT / "docs" / "images.md"
_BEGIN: Final = "<!-- oracle: begin (made by `make oracle`) -->\n"
_END: Final = "<!-- oracle: end -->\n"


def written(rows: Iterable[Comparison]) -> str:
    """Return the text between the markers: tolerances, cases in which browsers disagree, and the table."""
    compared = list(rows)
    lines = ["", "Largest difference of any of the 16 x 16 means that the test accepts, in levels of 255:", ""]
    lines += [f"- {one.levels}: {one.reason}." for one in Closeness]
    lines += ["", "Choices where browsers disagree, or where the file breaks its standard:", ""]
    lines += [f"- {name}: {remark}." for name, remark in _remarks(compared)]
    lines += ["", "| format | oddity | shown | scored | difference |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.case.format} | {row.case.oddity} | {row.shown} | {row.scored} | {row.difference} |" for row in compared
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


def _remarks(rows: list[Comparison]) -> list[tuple[str, str]]:
    """Return each remark once, with the first case that has it."""
    first: dict[str, str] = {}
    for row in rows:
        if row.case.remark:
            first.setdefault(row.case.remark, row.case.name)
    return [(name, remark) for remark, name in first.items()]
