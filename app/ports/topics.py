"""Reading topics outside of any lane. Names of topics and groups are without the installation's prefix."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from app.ports.records import SourceRecord

# A partition: its topic and its number.
Part = tuple[str, int]


@dataclass(frozen=True, slots=True)
class AtTime:
    """The first record of each partition with this timestamp or a later one; the partition's end if there is none."""

    unix_ms: int


@dataclass(frozen=True, slots=True)
class AtOffsets:
    """An offset for each partition. A partition without an offset counts from its start (as an end: is skipped)."""

    offsets: Mapping[int, int]


# Where a scan begins or ends.
Bound = AtTime | AtOffsets
# Where following begins: at the next committed record (None), at a time, or at an offset for each partition (a
# partition without an offset counts from its start).
Since = AtTime | Mapping[Part, int] | None


class Follower(Protocol):
    """New records of some topics as they are committed."""

    @property
    def begins(self) -> Mapping[Part, int]:
        """The offset in each partition at which following began."""
        ...

    async def poll(self, wait_seconds: float) -> list[SourceRecord]:
        """Return the new records, waiting at most `wait_seconds` for the first; order holds within a partition.

        Returns none while the broker is unreachable, or raises BrokerUnavailable.
        """
        ...

    async def caught_up(self) -> bool:
        """Return whether all records were polled that were committed when following began, or at the last `aim`."""
        ...

    async def aim(self) -> None:
        """Move the target of `caught_up` to the present end. Raises BrokerUnavailable."""
        ...

    async def reach(self) -> None:
        """Return when the broker has answered for every partition. Raises BrokerUnavailable after some seconds."""
        ...


class TopicLog(Protocol):
    """The topics of one installation, read outside of any group. Only committed records are visible.

    Offsets rise within a partition, with holes: transaction markers, aborted records and retention leave some out.
    Every method with a topic raises StartupRefused if it does not exist, and BrokerUnavailable if the broker does not
    answer in time.
    """

    async def starts(self, topic: str) -> dict[int, int]:
        """Return the first offset that each partition still holds."""
        ...

    async def ends(self, topic: str) -> dict[int, int]:
        """Return the next offset of each partition. Records of open transactions lie before it."""
        ...

    async def count(self, topic: str, start: Bound | None = None, end: Bound | None = None) -> int:
        """Return the number of offsets between the bounds: an upper bound of the records, for a progress bar."""
        ...

    def scan(
        self, topic: str, start: Bound | None = None, end: Bound | None = None
    ) -> AsyncGenerator[SourceRecord, None]:
        """Yield the records from `start` (None: the first) up to, not including, `end` (None: the end at this moment).

        Waits for a transaction that is open before the end. Order holds within a partition only. Memory is bounded.
        Close the iterator (`aclosing`) if it is left early.
        """
        ...

    def follow(self, topics: Sequence[str], since: Since = None) -> AbstractAsyncContextManager[Follower]:
        """Return a follower of `topics`, to be entered. Without `since` it sees every record committed after that."""
        ...

    def partition_of(self, key: bytes, partitions: int) -> int:
        """Return the partition of `key` on a topic with `partitions` partitions, by the default partitioner."""
        ...


@dataclass(frozen=True, slots=True)
class Backlog:
    """The records of one topic that one group has not committed.

    `records` is an upper bound, because transaction markers have offsets too. `oldest_ms` is the timestamp of the
    oldest record, None if there is none.
    """

    group: str
    topic: str
    records: int
    oldest_ms: int | None


class ConsumerGroups(Protocol):
    """The progress of the agents' consumer groups. Both methods raise BrokerUnavailable."""

    async def committed(self, groups: Sequence[str]) -> dict[str, dict[Part, int]]:
        """Return the committed offset (the next to be read) of each group and partition; absent without a commit."""
        ...

    async def backlogs(self, pairs: Sequence[tuple[str, str]]) -> tuple[Backlog, ...]:
        """Return the backlog of each pair of group and topic, in their order; a topic that does not exist is skipped.

        A group without a commit counts from the topic's start. Records of an open transaction do not count.
        """
        ...


def of_topic(offsets: Mapping[Part, int], topic: str) -> dict[int, int]:
    """Return the offsets of one topic, by partition number."""
    return {number: offset for (name, number), offset in offsets.items() if name == topic}
