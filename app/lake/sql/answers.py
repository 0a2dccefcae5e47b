"""Questions of docs/analytics.md: blocks of SQL, each with the block of text below it that contains the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from app.lake.sql.duckdb_session import Duck
from app.lake.sql.output import aligned
from app.settings import ROOT

PAGE: Final = ROOT / "docs" / "analytics.md"
# An answer on the page is an example, so it is short.
MOST_ROWS: Final = 12
_BLOCKS: Final = re.compile(
    r"^## (?P<title>.+?)\n(?P<before>.*?)^```sql\n(?P<sql>.*?)^```\n\n^```text\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True, slots=True)
class Question:
    """One question: heading, query, and the answer on the page."""

    title: str
    sql: str
    answer: str


def questions(page: str) -> tuple[Question, ...]:
    """Return the questions of a page in their order."""
    return tuple(Question(match["title"], match["sql"], match["text"]) for match in _BLOCKS.finditer(page))


def with_answers(page: str, answers: Mapping[str, str]) -> str:
    """Return the page with new answers, by title. A question without a new answer keeps the old one."""

    def renewed(match: re.Match[str]) -> str:
        start, end = match.start("text") - match.start(), match.end("text") - match.start()
        whole = match[0]
        return f"{whole[:start]}{answers.get(match['title'], match['text'])}{whole[end:]}"

    return _BLOCKS.sub(renewed, page)


def answered(duck: Duck, question: Question) -> str:
    """Run a question's query and return its answer in the page's format. Raises QueryRefused, LakeUnavailable."""
    answer = duck.query(question.sql)
    rows = list(answer.rows())
    lines = aligned([column.name for column in answer.columns], list(islice(rows, MOST_ROWS)))
    if len(rows) > MOST_ROWS:
        lines.append(f"… {len(rows)} rows in all")
    return "".join(f"{line}\n" for line in lines)
