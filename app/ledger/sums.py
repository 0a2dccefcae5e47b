"""The sums of the ledger: what should be there against what is, in sorted arrays of upload numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.ledger.digest_sets import Ids


@dataclass(frozen=True, slots=True)
class Example:
    """One gap or duplicate, for people."""

    what: str
    upload_id: str
    bucket: str
    key: str
    where: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """The sums. Jobs (rescorings) are counted apart."""

    uploads: int
    outcomes: int
    open_dead_letters: int
    lost: int
    duplicated: int
    in_flight: int
    never_notified: int
    job_tasks: int
    job_outcomes: int
    job_open_dead_letters: int
    job_lost: int
    job_duplicated: int
    job_in_flight: int
    other_dead_letters: int
    examples: tuple[Example, ...] = ()

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing and nothing is there twice."""
        return not (self.lost or self.duplicated or self.job_lost or self.job_duplicated)

    @property
    def settled(self) -> bool:
        """Whether nothing is in flight any more."""
        return not (self.in_flight or self.job_in_flight)


@dataclass(frozen=True, slots=True)
class Side:
    """One half of the ledger: what should be there, and what is."""

    expected: Ids
    outcomes: Ids
    letters: Ids
    pending: Ids

    def sums(self) -> tuple[int, int, Ids, Ids, int]:
        """Return outcomes, open letters, the lost, the duplicated, and how many are in flight."""
        outcomes, counts = np.unique(self.outcomes, return_counts=True)
        letters = np.unique(self.letters)
        with_outcome = np.intersect1d(self.expected, outcomes, assume_unique=True)
        with_letter = np.intersect1d(self.expected, letters, assume_unique=True)
        twice = np.union1d(outcomes[counts > 1], np.intersect1d(with_outcome, with_letter, assume_unique=True))
        missing = np.setdiff1d(np.setdiff1d(self.expected, outcomes, assume_unique=True), letters, assume_unique=True)
        moving = np.intersect1d(missing, np.unique(self.pending), assume_unique=True)
        lost = np.setdiff1d(missing, moving, assume_unique=True)
        return len(with_outcome), len(with_letter), lost, twice, len(moving)
