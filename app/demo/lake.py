"""The demo's part for the lake: decisions of a moderator, are all outcomes rows, and two answers by SQL."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.demo.screen import Screen
from app.demo.tally import Tally
from app.exit_codes import ExitCode
from app.settings import Settings
from app.stack.verbs import run_verb, told_object
from app.systems.kafka.producer import KafkaProducer
from app.systems.registry.avro import Codec
from app.topics import DECISIONS
from schemas.records import FlaggedImage, ModerationDecision

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


_MODERATOR: Final = "demo"
_WRITTEN_ON: Final = "written-on"


async def decide(settings: Settings, tally: Tally) -> int:
    """Decide on every flagged upload as a moderator would who knows how its picture was made; return how many.

    The decisions lie on moderation.decisions.v1 as those of people do, so that the lake has some to ask about.
    """
    codec, producer = Codec(), KafkaProducer(settings.kafka, "sightline-demo")
    records = [_decision(flag, tally) for flag in tally.flags.values() if flag.state == "flagged"]
    try:
        await producer.send_batch(
            [(DECISIONS, f"{made.bucket}/{made.key}".encode(), codec.encode(made)) for made in records]
        )
    finally:
        await producer.close()
    return len(records)


def _decision(flag: FlaggedImage, tally: Tally) -> ModerationDecision:
    picture = tally.sent[flag.key]
    # Cut, turned, blurred: no reason to reject. Written on, or a file that is none: one.
    reject = picture.kind == _WRITTEN_ON or picture.scored is False
    return ModerationDecision(
        decision_id=hashlib.sha256(f"{_MODERATOR}/{flag.flag_id}".encode()).hexdigest()[:32],
        bucket=flag.bucket,
        key=flag.key,
        version_id=flag.version_id,
        etag=flag.etag,
        sha256=flag.sha256,
        upload_id=flag.upload_id,
        flag_id=flag.flag_id,
        decision="reject" if reject else "approve",
        reason=flag.rules[0].rule if reject and flag.rules else "",
        moderator=_MODERATOR,
        policy=flag.policy,
        policy_version=flag.policy_version,
        reverses=None,
        dialect=flag.dialect,
        order_key=flag.order_key,
        event_time_ms=flag.event_time_ms,
        decided_at_ms=int(time.time() * 1000),
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
    found = told_object(text)
    tables: list[dict[str, Any]] = found["tables"] if found else []
    counts = next((each for each in tables if each["table"] == "predictions"), {})
    line = (
        f"outcomes={counts['records']} rows={counts['rows']} missing={counts['missing']} extra={counts['extra']}"
        if counts
        else f"the lake could not be counted (exit code {code}): {text.strip()[-500:]}"
    )
    answers = []
    # The verb also agrees while rows are merely late; here they have had their time.
    good = code == ExitCode.OK and bool(tables) and all(each["rows"] == each["records"] for each in tables)
    for question, sql in QUESTIONS:
        sql_code, answer = await run_verb(environment, "lake", "sql", sql)
        good = good and sql_code == ExitCode.OK
        answers.append((question, answer))
    return LakeAnswers(good, counts, line, tuple(answers))
