"""Measurements of lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.metrics import Meters
from app.ports.records import Completion
from app.streaming.ports import SourcePartition
from app.streaming.suspects import CRASHED_WORKER
from schemas.records import DeadLetter, ImagePrediction


class LaneMeters(Protocol):
    """Receiver of every release. Must not block or raise."""

    def released(
        self,
        source: SourcePartition,
        completions: Sequence[Completion],
        outputs: int,
        repeats: int,
        seconds: float,
    ) -> None:
        """Count one committed transaction. `completions` excludes the repeats; `seconds` is the time of the release."""
        ...


class SilentMeters:
    """Meters that count nothing."""

    def released(
        self,
        source: SourcePartition,
        completions: Sequence[Completion],
        outputs: int,
        repeats: int,
        seconds: float,
    ) -> None:
        """See LaneMeters."""


class CountingMeters:
    """Meters that count releases in the metrics of app/metrics.py."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def released(
        self,
        source: SourcePartition,
        completions: Sequence[Completion],
        outputs: int,
        repeats: int,
        seconds: float,
    ) -> None:
        """See LaneMeters."""
        meters, topic = self._meters, source.topic
        meters.count("sightline_released_total", len(completions) + repeats, topic=topic)
        meters.count("sightline_repeats_total", repeats, topic=topic)
        meters.count("sightline_dead_letters_total", sum(each.dead_letters for each in completions), topic=topic)
        meters.count("sightline_transactions_total", topic=topic)
        meters.observe("sightline_transaction_records", len(completions) + repeats)
        meters.observe("sightline_release_seconds", seconds)
        for completion in completions:
            for output in completion.outputs:
                meters.count("sightline_outputs_total", topic=output.topic)
                if isinstance(output.record, ImagePrediction):
                    meters.count("sightline_outcomes_total", outcome=output.record.outcome)
                    if output.record.cached:
                        meters.count("sightline_cached_outcomes_total")
                elif isinstance(output.record, DeadLetter) and output.record.kind == CRASHED_WORKER:
                    meters.count("sightline_crashed_records_total", topic=topic)
