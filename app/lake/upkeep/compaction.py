"""Compaction of a table, day by day: plan, merge, and plan again after a collision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from app.domain.compaction import plan
from app.errors import LakeUnavailable
from app.lake.iceberg.compactor import Compactor, Joined

# A day that another process rewrites at the same time is left to it.
_PLANS: Final = 4


@dataclass(frozen=True, slots=True)
class Days:
    """Range of UTC days as ISO, both included; empty: no bound."""

    since: str = ""
    until: str = ""

    def __contains__(self, day: str) -> bool:
        return (not self.since or day >= self.since) and (not self.until or day <= self.until)


@dataclass(frozen=True, slots=True)
class DayDone:
    """Result for one day."""

    day: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rows: int


def compact(compactor: Compactor, days: Days, target_bytes: int, report: Callable[[DayDone], None]) -> list[DayDone]:
    """Merge the small files of each day. Calls `report` for each day with a change. Blocks.

    Each group is a separate commit, which stays if a later one fails. Raises LakeUnavailable.
    """
    done = []
    for day in sorted(day for day in compactor.days() if day in days):
        for _ in range(_PLANS):
            files = compactor.days().get(day, [])
            groups = plan(files, target_bytes)
            if not groups:
                break
            joined = [result for group in groups if (result := compactor.join(group)) is not None]
            if joined:
                finished = _day(day, len(files), joined)
                done.append(finished)
                report(finished)
            if len(joined) == len(groups):
                break
        else:
            raise LakeUnavailable(
                f"files of {day} were replaced by others {_PLANS} times in the meantime; try again later"
            )
    return done


def _day(day: str, files: int, joined: list[Joined]) -> DayDone:
    gained = sum(each.files_before - each.files_after for each in joined)
    return DayDone(
        day,
        files,
        files - gained,
        sum(each.bytes_before for each in joined),
        sum(each.bytes_after for each in joined),
        sum(each.rows for each in joined),
    )
