"""How far a job is: tasks that are out, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from app.domain.jobs import ENQUEUED, Job, silent_since
from app.errors import Poison
from app.ports.records import RecordCodec
from app.ports.topics import AtOffsets, AtTime, TopicLog
from app.rescoring.jobs import RescoreParts
from app.rescoring.signs import last_signs
from app.topics import DEAD_LETTERS, PREDICTIONS
from schemas.records import DeadLetter, ImagePrediction


@dataclass(frozen=True, slots=True)
class Progress:
    """A job and what came of its tasks so far. `phase`: planning, enqueuing, paused, cancelled, waiting or done.

    Where somebody asks from outside: when its runner was heard of last, and since when nobody runs it.
    """

    job: Job
    phase: str
    outcomes: int
    dead_letters: int
    rate_per_second: float
    seconds_left: float | None
    last_sign_ms: int | None = None
    no_runner_since_ms: int | None = None


Report = Callable[[Progress], None]


class OutcomeCounter:
    """Counts what came of a job's tasks: its outcomes on the predictions topic, its dead letters."""

    def __init__(self, log: TopicLog, codec: RecordCodec, job: Job) -> None:
        self._log = log
        self._codec = codec
        self._job = job
        self._mark = job.id.encode()
        self._next: dict[str, dict[int, int]] = {PREDICTIONS: dict(job.ends)}
        self.outcomes = 0
        self.dead_letters = 0

    @property
    def ended(self) -> int:
        """How many tasks have come to an end, one way or the other."""
        return self.outcomes + self.dead_letters

    async def update(self) -> None:
        """Read on from where the last update ended."""
        self.outcomes += await self._count(PREDICTIONS, ImagePrediction)
        self.dead_letters += await self._count(DEAD_LETTERS, DeadLetter)

    async def _count(self, topic: str, kind: type[ImagePrediction] | type[DeadLetter]) -> int:
        position = self._next.get(topic)
        start = AtTime(self._job.created_at_ms) if position is None else AtOffsets(position)
        ends = await self._log.ends(topic)
        count = 0
        async with aclosing(self._log.scan(topic, start, AtOffsets(ends))) as records:
            async for record in records:
                # Most records belong to nobody's job: only those that hold the id's bytes are worth decoding.
                if record.value is None or self._mark not in record.value:
                    continue
                try:
                    found = self._codec.decode_as(record.value, kind)
                except Poison:
                    continue
                count += found.job_id == self._job.id
        self._next[topic] = ends
        return count


async def status_of(parts: RescoreParts, job: Job) -> Progress:
    """Return the job with its outcomes counted over the topics; reads everything since the job began."""
    counter = OutcomeCounter(parts.log, parts.codec, job)
    await counter.update()
    phase = job.state if job.state != ENQUEUED else ("done" if counter.ended >= job.enqueued else "waiting")
    return Progress(job, phase, counter.outcomes, counter.dead_letters, 0.0, None)


async def with_signs(parts: RescoreParts, found: Sequence[Progress]) -> list[Progress]:
    """Return `found` with what is known of who runs each job."""
    signs = await last_signs(parts.log, parts.codec)
    now_ms = parts.clock.now_ms()
    return [
        replace(one, last_sign_ms=at, no_runner_since_ms=silent_since(one.job, at, now_ms))
        for one in found
        for at in (signs.get(one.job.id),)
    ]
