"""Which uploads of a time a rescoring covers, and the tasks for them.

Two passes over the predictions, image by image hash in slices so that memory stays bounded: the first finds the latest
outcome of each image, the second (in rescore.py) makes the tasks in the topic's own order.
"""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from app.domain.events import Created
from app.domain.identity import rescore_upload_id
from app.domain.jobs import Job
from app.domain.policy import FLAGGED as STATE_FLAGGED
from app.domain.policy import NO_ACTION, past_outcome, past_picture, past_verdict
from app.domain.retries import BACKFILL_LANE
from app.domain.standing import Standing, removes, replaces, same_upload, standing_of
from app.domain.tasks import first_task
from app.errors import Poison
from app.ports.records import RecordCodec, SourceRecord
from app.ports.topics import AtOffsets, AtTime, TopicLog
from app.topics import FLAGGED, PREDICTIONS, REMOVED
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, ImageTask, ModelScores

# An entry of the plan takes about 0.6 KB, so one slice takes at most some 600 MB.
SLICE_RECORDS: Final = 1_000_000
# Servers' clocks differ: an upload may be predicted "before" its own event time by this much.
_CLOCK_MARGIN_MS: Final = 600_000


@dataclass(frozen=True, slots=True)
class _Latest:
    standing: Standing
    partition: int
    offset: int
    wanted: bool


# The latest upload of each image by the first and by the other reading of its event's key (app/domain/standing.py).
_ByReading = tuple[dict[bytes, _Latest], dict[bytes, _Latest]]


@dataclass(frozen=True, slots=True)
class Plan:
    """The predictions to make tasks of, with the verdict on each that is known to have been made."""

    chosen: Mapping[tuple[int, int], ModelScores | None]
    skipped: int


class Planner:
    """Reads the topics for one job."""

    def __init__(self, log: TopicLog, codec: RecordCodec, job: Job, decided_before: Mapping[int, int]) -> None:
        """`decided_before`: the offset up to which `moderate` has read each partition of the predictions."""
        if job.request.from_ms is None:
            raise ValueError("a job over a bucket has no time to plan by")
        self._log = log
        self._codec = codec
        self._job = job
        self._decided_before = decided_before
        self._from_ms = job.request.from_ms
        self._start = AtTime(max(0, self._from_ms - _CLOCK_MARGIN_MS))

    async def plan(self, slice_number: int) -> Plan:
        """Return what slice `slice_number` covers: the latest upload of each image, unless it was removed since."""
        first, other = await self._latest(slice_number)
        in_window = sum(found.wanted for found in ChainMap(other, first).values())
        await self._drop_removed((first, other), slice_number)
        for image, found in other.items():
            if image not in first or replaces(found.standing, first[image].standing):
                first[image] = found
        verdicts = await self._verdicts(first, slice_number)
        chosen = {
            (found.partition, found.offset): verdicts.get(image) for image, found in first.items() if found.wanted
        }
        # What an image shows by one reading may be in the window although its upload by the other was not.
        return Plan(chosen, max(0, in_window - len(chosen)))

    async def predictions(self, offsets: tuple[tuple[int, int], ...]) -> AsyncGenerator[SourceRecord, None]:
        """Yield the predictions that the job sees from `offsets` on, from the job's time without any."""
        start = AtOffsets(dict(offsets)) if offsets else self._start
        async with aclosing(self._log.scan(PREDICTIONS, start, AtOffsets(dict(self._job.ends)))) as records:
            async for record in records:
                yield record

    async def count(self) -> int:
        """Return how many records the job sees, at most."""
        return await self._log.count(PREDICTIONS, self._start, AtOffsets(dict(self._job.ends)))

    async def _latest(self, slice_number: int) -> _ByReading:
        readings: _ByReading = ({}, {})
        async for record in self.predictions(()):
            image = self._image(record, slice_number)
            if image is None:
                continue
            prediction = self.read(record)
            if prediction is None:
                continue
            standing = standing_of(prediction)
            latest = readings[standing.other_reading]
            held = latest.get(image)
            if held is None or replaces(standing, held.standing):
                latest[image] = _Latest(standing, record.partition, record.offset, self._wants(prediction))
        return readings

    def _wants(self, prediction: ImagePrediction) -> bool:
        at_ms = prediction.event_time_ms or prediction.identified_at_ms
        before = self._job.request.to_ms
        # What is gone stays gone: there is nothing to score.
        return at_ms >= self._from_ms and (before is None or at_ms < before) and prediction.outcome != "gone"

    async def _drop_removed(self, readings: _ByReading, slice_number: int) -> None:
        async with aclosing(self._log.scan(REMOVED, self._start)) as records:
            async for record in records:
                image = self._image(record, slice_number)
                held = [latest for latest in readings if image in latest]
                if image is None or not held:
                    continue
                try:
                    removal = self._codec.decode_as(record.value, ImageRemoved)
                except Poison:
                    continue
                for latest in held:
                    if removes(removal, latest[image].standing):
                        del latest[image]

    async def _verdicts(self, latest: Mapping[bytes, _Latest], slice_number: int) -> dict[bytes, ModelScores]:
        """Return what `moderate` decided on each image, for those of which it is known for certain."""
        flags: dict[bytes, FlaggedImage] = {}
        async with aclosing(self._log.scan(FLAGGED, self._start)) as records:
            async for record in records:
                image = self._image(record, slice_number)
                held = latest.get(image) if image is not None else None
                if image is None or held is None:
                    continue
                try:
                    flag = self._codec.decode_as(record.value, FlaggedImage)
                except Poison:
                    continue
                known = flags.get(image)
                if same_upload(standing_of(flag), held.standing) and (
                    known is None or replaces(standing_of(flag), standing_of(known))
                ):
                    flags[image] = flag
        verdicts = {}
        for image, held in latest.items():
            if held.offset < self._decided_before.get(held.partition, 0):
                verdicts[image] = _verdict(flags.get(image))
        return verdicts

    def read(self, record: SourceRecord) -> ImagePrediction | None:
        """Return the prediction in `record`, None for bytes that are none."""
        try:
            return self._codec.decode_as(record.value, ImagePrediction)
        except Poison:
            return None

    def _image(self, record: SourceRecord, slice_number: int) -> bytes | None:
        if record.key is None:
            return None
        image = hashlib.blake2b(record.key, digest_size=16).digest()
        return image if (image[0] * 256 + image[1]) * self._job.slices // 65_536 == slice_number else None


def slices_for(records: int) -> int:
    """Return into how many slices a job over so many predictions is cut."""
    return min(65_536, max(1, -(-records // SLICE_RECORDS)))


def _verdict(flag: FlaggedImage | None) -> ModelScores:
    if flag is None or flag.state != STATE_FLAGGED:
        return past_verdict(NO_ACTION, "" if flag is None else flag.policy_version, ())
    return past_verdict(flag.action, flag.policy_version, tuple((rule.rule, rule.severity) for rule in flag.rules))


def rescore_task(prediction: ImagePrediction, verdict: ModelScores | None, job: Job, now_ms: int) -> ImageTask:
    """Return the task that scores the upload of `prediction` again under `job`.

    Dialect, order and event time are those of the upload, so nothing newer is replaced by it; the digest is known, so
    nothing is fetched where scores or the embedding are stored.
    """
    previous = list(prediction.scores)
    if prediction.outcome != "scored":
        previous.append(past_outcome(prediction.outcome, prediction.reason))
    elif prediction.frames:
        previous.append(past_picture(prediction.frames, prediction.truncated))
    if verdict is not None:
        previous.append(verdict)
    upload = Created(
        dialect=prediction.dialect,
        event_name=prediction.event_name,
        bucket=prediction.bucket,
        key=prediction.key,
        alternate_key=None,
        version_id=prediction.version_id,
        etag=prediction.etag,
        size_bytes=prediction.size_bytes,
        sequencer=prediction.sequencer,
        event_time_ms=prediction.event_time_ms,
    )
    task = first_task(
        upload,
        upload_id=rescore_upload_id(prediction.upload_id, job.id),
        order_key=prediction.order_key,
        identified_at_ms=now_ms,
        source=prediction.source,
        lane=BACKFILL_LANE,
    )
    return replace(
        task,
        job_id=job.id,
        known_sha256=prediction.sha256,
        models=job.request.models,
        force=job.request.force,
        previous=tuple(previous),
        event_key=prediction.event_key,
        superseded=prediction.superseded,
    )
