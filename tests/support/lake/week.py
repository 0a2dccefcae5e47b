"""Five days of a made shop: uploads, flags, decisions, removals and embeddings, the same at every call.

Everything that an upload is follows from its number, so a test can count it again without SQL.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Final

from app.domain import identity
from schemas.records import (
    ContentEmbedding,
    FlaggedImage,
    ImagePrediction,
    ImageRemoved,
    ModelScores,
    ModerationDecision,
    Record,
    RuleMatch,
)
from tests.support.lake.tables import DAY_MS, Published
from tests.support.outcomes import CATEGORY_LABELS, flag_of, labelled, prediction, removal, scores

DAYS: Final = 5
A_DAY: Final = 48
SELLERS: Final = ("anna", "bert", "cleo", "dora")
# As in models/ and policies/default.yaml.
TEXT, NSFW_REVIEW, NSFW_BLOCK, BLURRY = 0.39, 0.8, 0.95, 0.5
JOB: Final = "job-0001"


@dataclass(frozen=True, slots=True)
class Week:
    """What happened, each record with its time of publication by `tables`."""

    uploads: tuple[ImagePrediction, ...]
    rescored: tuple[ImagePrediction, ...]
    flags: tuple[FlaggedImage, ...]
    decisions: tuple[ModerationDecision, ...]
    removals: tuple[ImageRemoved, ...]
    embeddings: tuple[ContentEmbedding, ...]

    def tables(self) -> dict[str, list[Published]]:
        """Return the records by table, published a moment after they were made."""
        outcomes: list[Record] = [*self.uploads, *self.rescored]
        made: dict[str, list[Record]] = {
            "predictions": outcomes,
            "flagged": list(self.flags),
            "decisions": list(self.decisions),
            "removals": list(self.removals),
            "embeddings": list(self.embeddings),
        }
        return {name: [(record, _made_ms(record) + 50) for record in records] for name, records in made.items()}


def made_week(first_day_ms: int) -> Week:
    """Return five days from a UTC midnight on."""
    uploads = tuple(_upload(number, first_day_ms) for number in range(DAYS * A_DAY))
    rescored = tuple(_again(upload) for upload in uploads[::10] if upload.outcome == "scored")
    flags = [flag for upload in uploads if (flag := _flag(upload)) is not None]
    # Every sixth flag is taken back by the same job.
    cleared = tuple(_cleared(flag, first_day_ms) for flag in flags[::6])
    decisions = [_decision(flag, number) for number, flag in enumerate(flags) if flag.action != "notify"]
    taken_back = [_reversal(decision) for decision in decisions[::5]]
    removals = tuple(
        removal(
            order=10_000 + number,
            removal_id=f"removal-{number}",
            key=upload.key,
            event_time_ms=first_day_ms + DAYS * DAY_MS - 60_000 + number,
        )
        for number, upload in enumerate(uploads[5::40])
    )
    contents = dict.fromkeys(upload.sha256 for upload in uploads if upload.outcome == "scored")
    embeddings = tuple(_embedding(sha256, first_day_ms) for sha256 in contents if sha256)
    return Week(uploads, rescored, (*flags, *cleared), (*decisions, *taken_back), removals, embeddings)


def share(text: str) -> float:
    """Return a number from 0 to 1 that looks made by chance and is not."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32


def _made_ms(record: Record) -> int:
    match record:
        case ImagePrediction():
            return record.scored_at_ms
        case FlaggedImage() | ModerationDecision():
            return record.decided_at_ms
        case ContentEmbedding():
            return record.computed_at_ms
        case ImageRemoved():
            return record.event_time_ms
        case _:
            raise TypeError(type(record).__name__)


def _upload(number: int, first_day_ms: int) -> ImagePrediction:
    # Every third upload has bytes that were there before, under another key.
    content = number - 7 if number % 3 == 2 and number >= 7 else number
    event_ms = first_day_ms + number // A_DAY * DAY_MS + number % A_DAY * 1_500_000
    outcome, reason = "scored", ""
    if number % 17 == 16:
        outcome, reason = "rejected", "too_many_pixels" if number % 2 else "undecodable"
    elif number % 29 == 28:
        outcome, reason = "gone", "deleted"
    seller = SELLERS[int(share(f"seller {number}") * len(SELLERS))]
    return prediction(
        order=number + 1,
        upload_id=f"upload-{number:04d}",
        # An image in forty is uploaded anew under its key.
        key=f"{seller}/photo-{number:04d}.jpg" if number % 40 or not number else "anna/again.jpg",
        sha256=None if outcome == "gone" else hashlib.sha256(f"content {content}".encode()).hexdigest(),
        outcome=outcome,
        reason=reason,
        cached=content != number and outcome == "scored",
        scores=_scores(content, "1" if number < 3 * A_DAY else "2") if outcome == "scored" else (),
        event_time_ms=event_ms,
        identified_at_ms=event_ms + 20,
        scored_at_ms=event_ms + 100 + int(share(f"late {number}") * 2000),
    )


def _scores(content: int, text_version: str) -> tuple[ModelScores, ...]:
    nsfw = share(f"nsfw {content}")
    return (
        scores("nsfw", nsfw=nsfw if nsfw > 0.7 else nsfw / 4),
        _category(content, "1"),
        scores("quality", blurry=share(f"blurry {content}"), dark=0.1, overall=0.5),
        scores("embedded_text", version=text_version, text=share(f"text {content} {text_version}")),
    )


def _category(content: int, version: str) -> ModelScores:
    top = CATEGORY_LABELS[int(share(f"category {content} {version}") * 4)]
    labels = {label: 0.73 if label == top else 0.03 for label in CATEGORY_LABELS}
    return labelled("category", labels, version=version)


def _again(upload: ImagePrediction) -> ImagePrediction:
    number = int(upload.upload_id.removeprefix("upload-"))
    return dataclasses.replace(
        upload,
        upload_id=identity.rescore_upload_id(upload.upload_id, JOB),
        job_id=JOB,
        lane="backfill",
        scores=(_category(number, "2"),),
        previous=upload.scores,
        scored_at_ms=upload.event_time_ms + 3 * DAY_MS,
    )


def value_of(upload: ImagePrediction, model: str, label: str) -> float:
    """Return a score of an upload."""
    return next(
        one.value for entry in upload.scores if entry.model == model for one in entry.labels if one.label == label
    )


def _flag(upload: ImagePrediction) -> FlaggedImage | None:
    if upload.outcome == "rejected" and upload.reason == "too_many_pixels":
        return _flag_by(upload, ("hostile-file", "review"))
    if upload.outcome != "scored":
        return None
    nsfw, text = value_of(upload, "nsfw", "nsfw"), value_of(upload, "embedded_text", "text")
    matches = []
    if nsfw >= NSFW_BLOCK:
        matches.append(("nsfw-block", "block"))
    elif nsfw >= NSFW_REVIEW:
        matches.append(("nsfw-review", "review"))
    if text >= TEXT:
        matches.append(("embedded-text", "notify"))
    return _flag_by(upload, *matches) if matches else None


def _flag_by(upload: ImagePrediction, *matches: tuple[str, str]) -> FlaggedImage:
    rules = tuple(RuleMatch(rule, action, 50, f"{action}: {rule}", ()) for rule, action in matches)
    return flag_of(upload, action=matches[0][1], rules=rules)


def _cleared(flag: FlaggedImage, first_day_ms: int) -> FlaggedImage:
    upload_id = identity.rescore_upload_id(flag.upload_id, JOB)
    return dataclasses.replace(
        flag,
        flag_id=f"cleared-{flag.upload_id}",
        upload_id=upload_id,
        state="cleared",
        action="none",
        severity=0,
        rules=(),
        changed=True,
        previous_action=flag.action,
        previous_rules=tuple(match.rule for match in flag.rules),
        job_id=JOB,
        decided_at_ms=flag.decided_at_ms + DAY_MS // 2,
    )


def _decision(flag: FlaggedImage, number: int) -> ModerationDecision:
    decided = ("reject", "reject", "approve", "skip")[int(share(f"decision {number}") * 4)]
    return ModerationDecision(
        decision_id=f"decision-{number}",
        bucket=flag.bucket,
        key=flag.key,
        version_id=None,
        etag=flag.etag,
        sha256=flag.sha256,
        upload_id=flag.upload_id,
        flag_id=flag.flag_id,
        decision=decided,
        reason="nudity" if decided == "reject" else "",
        moderator=("mia", "noah")[number % 2],
        policy=flag.policy,
        policy_version=flag.policy_version,
        reverses=None,
        dialect=flag.dialect,
        order_key=flag.order_key,
        event_time_ms=flag.event_time_ms,
        decided_at_ms=flag.decided_at_ms + 3_600_000,
    )


def _reversal(decision: ModerationDecision) -> ModerationDecision:
    return dataclasses.replace(
        decision,
        decision_id=f"{decision.decision_id}-back",
        decision="approve",
        reason="",
        moderator="head",
        reverses=decision.decision_id,
        decided_at_ms=decision.decided_at_ms + 60_000,
    )


def _embedding(sha256: str, first_day_ms: int) -> ContentEmbedding:
    values = bytes(bytes.fromhex(sha256)[:16])
    return ContentEmbedding(sha256, "nsfw", "1", "open-nsfw-2", len(values), 0.01, values, first_day_ms + DAY_MS)
