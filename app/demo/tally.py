"""What the demo has seen so far: uploads sent, outcomes and flags as they are committed. Pure; time is an argument."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from app.demo.pictures import Picture
from schemas.records import FlaggedImage, ImagePrediction

# Rates over so long: steady enough to read, quick enough to show a stall.
_RATE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Surprise:
    """An upload whose outcome is not what its bytes ask for."""

    picture: Picture
    outcome: str
    reason: str


@dataclass(slots=True)
class Tally:
    """Counts by key; a record of another run or bucket is ignored."""

    total: int
    sent: dict[str, Picture] = field(default_factory=dict)
    outcomes: dict[str, ImagePrediction] = field(default_factory=dict)
    flags: dict[str, FlaggedImage] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    _moments: deque[tuple[float, int, int]] = field(default_factory=deque)

    def upload(self, picture: Picture) -> None:
        """Count a picture that the store has."""
        self.sent[picture.key] = picture

    def see(self, record: ImagePrediction | FlaggedImage, partition: int, offset: int) -> None:
        """Count an outcome or a flag of one of our uploads."""
        if record.key not in self.sent:
            return
        match record:
            case ImagePrediction():
                self.outcomes[record.key] = record
                self.positions[partition] = max(offset, self.positions.get(partition, -1))
            case FlaggedImage():
                self.flags[record.key] = record

    @property
    def waiting(self) -> int:
        """Uploads without an outcome so far: the lag."""
        return len(self.sent) - len(self.outcomes)

    @property
    def hits(self) -> int:
        """Outcomes answered from known scores, because the bytes had been seen."""
        return sum(outcome.cached for outcome in self.outcomes.values())

    @property
    def publishable(self) -> int:
        """Outcomes that a product may show: scored and not blocked."""
        return sum(outcome.publishable for outcome in self.outcomes.values())

    def count(self, outcome: str) -> int:
        """How many ended as `outcome`."""
        return sum(record.outcome == outcome for record in self.outcomes.values())

    @property
    def complete(self) -> bool:
        """Whether everything was sent and has an outcome."""
        return len(self.sent) == self.total and self.waiting == 0

    def rates(self, now: float) -> tuple[float, float]:
        """Return uploads and outcomes per second over the last seconds."""
        self._moments.append((now, len(self.sent), len(self.outcomes)))
        while now - self._moments[0][0] > _RATE_SECONDS:
            self._moments.popleft()
        then, sent, done = self._moments[0]
        seconds = max(now - then, 0.5)
        return (len(self.sent) - sent) / seconds, (len(self.outcomes) - done) / seconds

    def summary(self) -> dict[str, int]:
        """Return the counts that the demo tells of, by name."""
        ends = {outcome: self.count(outcome) for outcome in ("scored", "rejected", "gone")}
        return {**ends, "publishable": self.publishable, "from_known_scores": self.hits, "flagged": len(self.flags)}

    def rejections(self) -> Counter[str]:
        """Reasons of the rejected, with their counts."""
        return Counter(record.reason for record in self.outcomes.values() if record.outcome == "rejected")

    def surprises(self) -> list[Surprise]:
        """Uploads that ended otherwise than their bytes ask for: a good picture rejected, a bad file scored."""
        found = []
        for key, record in self.outcomes.items():
            picture = self.sent[key]
            if picture.scored is not None and picture.scored != (record.outcome == "scored"):
                found.append(Surprise(picture, record.outcome, record.reason))
        return found

    def examples(self, count: int) -> list[FlaggedImage]:
        """Return flagged uploads to tell of: the most severe first, each set of rules before a second of any.

        Keys that are easy to type go before odd ones.
        """

        def order(flag: FlaggedImage) -> tuple[int, bool, str]:
            return -flag.severity, not flag.key.isascii() or " " in flag.key, flag.key

        seen: Counter[tuple[str, ...]] = Counter()
        ranked: list[tuple[int, FlaggedImage]] = []
        for flag in sorted(self.flags.values(), key=order):
            rules = tuple(match.rule for match in flag.rules)
            ranked.append((seen[rules], flag))
            seen[rules] += 1
        return [flag for _, flag in sorted(ranked, key=lambda entry: entry[0])[:count]]
