"""The demo's questions to the lake: are all outcomes rows, and two answers by SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.demo.processes import run_verb
from app.demo.screen import Screen

# A commit every ten seconds, and one more where it has just gone by; a busy machine may need several times that.
_WAIT_SECONDS: Final = 120

QUESTIONS: Final = (
    (
        "Uploads by category: how many, how many with text laid over them, and how sure the model is",
        """\
select category, count(*) as uploads, count(distinct sha256) as contents,
       count(*) filter (where list_contains(reasons, 'content.embedded_text')) as with_text,
       round(avg(category_score), 2) as mean_score
from predictions_all where outcome = 'scored' group by category order by uploads desc""",
    ),
    (
        "Flagged uploads by rule, and what they scored",
        """\
select rule.rule, count(*) as flagged, round(avg(rule.conditions[1].value), 2) as mean_score
from (select unnest(rules) as rule from flagged where state = 'flagged') group by 1 order by flagged desc""",
    ),
)


@dataclass(frozen=True, slots=True)
class LakeAnswers:
    """What `lake verify` counted of the predictions, and what SQL answered."""

    agrees: bool
    counts: Mapping[str, Any]
    line: str
    answers: tuple[tuple[str, str], ...]

    def tell(self, screen: Screen) -> None:
        """Print all of it."""
        screen.result(self.line, good=self.agrees)
        for question, answer in self.answers:
            screen.line("")
            screen.line(question)
            for line in answer.rstrip().splitlines():
                screen.line(line)


async def ask_lake(environment: Mapping[str, str]) -> LakeAnswers:
    """Wait for every record of every topic to be a row, count, and ask. What fails is in the answer."""
    code, text = await run_verb(environment, "lake", "verify", "--wait", str(_WAIT_SECONDS), "--json")
    found = next((json.loads(line) for line in text.splitlines() if line.startswith("{")), None)
    tables: list[dict[str, Any]] = found["tables"] if found else []
    counts = next((each for each in tables if each["table"] == "predictions"), {})
    line = (
        f"outcomes={counts['records']} rows={counts['rows']} missing={counts['missing']} extra={counts['extra']}"
        if counts
        else f"the lake could not be counted (exit code {code}): {text.strip()[-500:]}"
    )
    answers = []
    # The verb also agrees while rows are merely late; here they have had their time.
    good = code == 0 and bool(tables) and all(each["rows"] == each["records"] for each in tables)
    for question, sql in QUESTIONS:
        sql_code, answer = await run_verb(environment, "lake", "sql", sql)
        good = good and sql_code == 0
        answers.append((question, answer))
    return LakeAnswers(good, counts, line, tuple(answers))
