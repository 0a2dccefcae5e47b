"""What the streaming core needs from Kafka and from the tables, as Protocols whose docstrings are contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from app.ports import SourceRecord

# Told of an error after which the process must not go on; does not return to normal work.
OnFailure = Callable[[BaseException], None]


class SourcePartition(NamedTuple):
    """One input partition. The topic's name is as Kafka knows it, with the installation's prefix."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class WireOutput(NamedTuple):
    """One record ready to be sent; the topic's name is as Kafka knows it, the partition follows the key."""

    topic: str
    key: bytes
    value: bytes


class Delivered(NamedTuple):
    """A record as the consumer handed it over, with the epoch of the opening that it belongs to.

    `record.topic` is without the installation's prefix, as processors know it.
    """

    source: SourcePartition
    record: SourceRecord
    epoch: int


class LaneProducer(Protocol):
    """The transactional producer of one input partition; only its lane uses it."""

    async def start(self) -> None:
        """Fence every older owner of this input partition and abort what it left open.

        Raises BrokerUnavailable (try again).
        """
        ...

    async def publish(self, outputs: Sequence[WireOutput], next_offset: int) -> None:
        """Commit `outputs` and the source offset `next_offset` in one transaction, all or nothing.

        Raises Fenced when another process owns the input partition, TransactionFailed when the outcome is unknown:
        after either the process must end. Not to be cancelled but at the end of a drain.
        """
        ...

    async def close(self) -> None:
        """Release connections; an open transaction is left to its timeout or to the next owner's `start`."""
        ...


class LaneProducers(Protocol):
    """Makes producers; one for each input partition."""

    def create(self, source: SourcePartition) -> LaneProducer:
        """Return a producer that is not started."""
        ...


class Opened(NamedTuple):
    """Where delivery of one input partition begins: the epoch that marks its messages, and the first offset."""

    epoch: int
    position: int
    lost_records: int


class SourceControl(Protocol):
    """The consumer, as the lanes see it."""

    async def locate(self, sources: Iterable[SourcePartition]) -> Mapping[SourcePartition, Opened]:
        """Read the committed offsets anew and go there (where none is committed: to the start); deliver nothing yet.

        Called only after the producers of `sources` have fenced all older owners: nobody else moves these offsets any
        more. `lost_records` counts what retention removed before it was read. Raises BrokerUnavailable.
        """
        ...

    def begin(self, opened: Mapping[SourcePartition, Opened]) -> None:
        """Begin delivery of what `locate` returned."""
        ...

    def close(self) -> None:
        """Deliver nothing more of any source; messages on their way belong to no epoch from here on."""
        ...

    def highwater(self, source: SourcePartition) -> int | None:
        """Return the end offset that the last fetch reported, or None."""
        ...


class TableStore(Protocol):
    """Keyed state beside a partition, with a changelog."""

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        """Return the value of `key`, or None. The partition must be owned, else KeyError."""
        ...

    async def put(self, table: str, partition: int, entries: Mapping[bytes, bytes]) -> None:
        """Upsert `entries`; returns when the changelog holds them durably, and only then are they visible.

        Raises TransactionFailed when the changelog cannot be written.
        """
        ...

    def exclusive(self, table: str, partition: int) -> AbstractAsyncContextManager[None]:
        """Return a lock on one table partition, for a read that decides a write."""
        ...
