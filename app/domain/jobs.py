"""Rescoring jobs: request, progress and allowed transitions."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from app.errors import ConfigurationError

JOB_KIND: Final = "job"
# Control record with an operator's request to a job. The job's own record is written by its runner only.
REQUEST_KIND: Final = "job-request"
# Heartbeat of a job's runner: only the time of the record counts, its body is empty.
RUNNER_KIND: Final = "job-runner"
# Interval of heartbeats: one record of 100 bytes each. Compaction keeps the last one of each job.
SIGN_EVERY_SECONDS: Final = 10.0
# Three missed heartbeats: neither a short broker outage nor clocks that differ by seconds make a runner look dead.
SILENT_MS: Final = 30_000

RUNNING: Final = "running"
PAUSED: Final = "paused"
CANCELLED: Final = "cancelled"
ENQUEUED: Final = "enqueued"
_LIVE_STATES: Final = (RUNNING, PAUSED)
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:/\s*(s|m|min|h))?")
_MODEL = re.compile(r"[a-z][a-z0-9_]*@[0-9]+(\.[0-9]+){0,2}")
_PER: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Scope of a job: the uploads of a time range (`from_ms` to `to_ms`), or a bucket below a prefix."""

    from_ms: int | None
    to_ms: int | None
    bucket: str
    prefix: str
    models: tuple[str, ...]
    force: bool

    @property
    def by_time(self) -> bool:
        """Return whether the uploads come from the predictions of a time range, not from a bucket listing."""
        return self.from_ms is not None

    def in_words(self) -> str:
        """Return the request as a sentence for people."""
        if self.by_time:
            covered = f"uploads from {in_utc(self.from_ms)} to {in_utc(self.to_ms)}"
        else:
            covered = f"s3://{self.bucket}/{self.prefix}"
        models = f", models {', '.join(self.models)}" if self.models else ""
        return f"{covered}{models}{', forced' if self.force else ''}"


@dataclass(frozen=True, slots=True)
class JobCursor:
    """Progress of a job's tasks. It advances in the transaction of each chunk of tasks.

    By time: the slice (images by hash) and the next offset of each partition of the predictions. By bucket: the last
    key.
    """

    slice: int
    offsets: tuple[tuple[int, int], ...]
    key: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `ends` fixes the predictions that it reads, so that a restarted job makes the same plan.

    `enqueued_at_ms`: time at which the last task was published, 0 before.
    """

    id: str
    request: JobRequest
    state: str
    created_at_ms: int
    ends: tuple[tuple[int, int], ...]
    slices: int
    total: int
    enqueued: int
    skipped: int
    cursor: JobCursor
    rate_per_second: float
    error: str
    enqueued_at_ms: int = 0

    @property
    def unfinished(self) -> bool:
        """Return whether the job may still publish tasks."""
        return self.state in _LIVE_STATES

    def to_json(self) -> str:
        """Return the job as the body of a control record."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(body: str) -> Job:
        """Return the job in `body`. Raises ValueError if `body` is not a job."""
        try:
            fields: dict[str, Any] = json.loads(body)
            request, cursor = fields.pop("request"), fields.pop("cursor")
            request["models"] = tuple(request["models"])
            cursor["offsets"] = _pairs(cursor["offsets"])
            fields["ends"] = _pairs(fields["ends"])
            return Job(request=JobRequest(**request), cursor=JobCursor(**cursor), **fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a job: {error}") from error


def may_wait(job: Job, now_ms: int, kept_ms: int) -> bool:
    """Return whether tasks of `job` may still wait for an outcome. `kept_ms` is the retention of their topic.

    After that a task without an outcome never gets one, and outcomes may have left their own topic uncounted.
    """
    return job.state == ENQUEUED and now_ms - job.enqueued_at_ms < kept_ms


def silent_since(job: Job, last_sign_ms: int | None, now_ms: int) -> int | None:
    """Return the time of the last heartbeat if `job` has tasks left but no live runner, else None."""
    if job.state != RUNNING or last_sign_ms is None or now_ms - last_sign_ms <= SILENT_MS:
        return None
    return last_sign_ms


def _pairs(lists: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(first), int(second)) for first, second in lists)


def parse_time(text: str) -> int:
    """Return an ISO 8601 time as Unix milliseconds. A time without a zone is UTC. Raises ConfigurationError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} is not a time such as 2026-11-23, 2026-11-23T20:15 or …T20:15:00Z"
        ) from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def parse_rate(text: str) -> float:
    """Return tasks a second from `N`, `N/s`, `N/m` or `N/h`. Raises ConfigurationError."""
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) / _PER[match[2] or ""] if match else 0.0
    if rate <= 0:
        raise ConfigurationError(f"--rate {text!r}: write it as 50/s, 3000/m or 100000/h")
    return rate


def parse_model(text: str) -> str:
    """Return `text` if it has the form NAME@VERSION. Raises ConfigurationError."""
    if not _MODEL.fullmatch(text):
        raise ConfigurationError(f"--model {text!r}: write it as NAME@VERSION, such as quality@2")
    return text


def in_utc(unix_ms: int | None) -> str:
    """Return a time in UTC, to the second, as text for people; None is "now"."""
    return "now" if unix_ms is None else datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
