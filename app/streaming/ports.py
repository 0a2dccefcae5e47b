"""Ports of the streaming core to Kafka and to the tables: Protocols whose docstrings are contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from app.ports.records import SourceRecord

# Called with an error after which the process must end.
OnFailure = Callable[[BaseException], None]


class SourcePartition(NamedTuple):
    """One input partition. The topic's name is Kafka's, with the installation's prefix."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class WireOutput(NamedTuple):
    """One encoded record to send. The topic's name is Kafka's; the key determines the partition."""

    topic: str
    key: bytes
    value: bytes


class Delivered(NamedTuple):
    """A record as the consumer delivered it, with the epoch of its opening.

    `record.topic` has no installation prefix: processors use the names of app/topics.py.
    """

    source: SourcePartition
    record: SourceRecord
    epoch: int


class LaneProducer(Protocol):
    """Transactional producer of one input partition. Only its lane uses it."""

    async def start(self) -> None:
        """Fence every earlier owner of this input partition and abort its open transaction.

        Raises BrokerUnavailable (retry).
        """
        ...

    async def publish(self, outputs: Sequence[WireOutput], next_offset: int) -> None:
        """Commit `outputs` and the source offset `next_offset` atomically in one transaction.

        Raises Fenced if another process owns the input partition, TransactionFailed if the outcome is unknown. The
        process must end after either. Do not cancel except at the end of a drain.
        """
        ...

    async def close(self) -> None:
        """Close connections. An open transaction ends by its timeout or by the next owner's `start`."""
        ...


class LaneProducers(Protocol):
    """Factory of producers, one for each input partition."""

    def create(self, source: SourcePartition) -> LaneProducer:
        """Return a producer that is not started."""
        ...


class Opened(NamedTuple):
    """Start of delivery of one input partition: the epoch of its messages, and the first offset."""

    epoch: int
    position: int
    lost_records: int


class SourceControl(Protocol):
    """Control of the consumer by the lanes."""

    async def locate(self, sources: Iterable[SourcePartition]) -> Mapping[SourcePartition, Opened]:
        """Read the committed offsets and seek to them (without one, to the start). Deliver nothing yet.

        Call after the producers of `sources` have fenced all earlier owners, so that no other process commits these
        offsets. `lost_records` counts records that retention removed before they were read. Raises BrokerUnavailable.
        """
        ...

    def begin(self, opened: Mapping[SourcePartition, Opened]) -> None:
        """Begin delivery from the positions that `locate` returned."""
        ...

    def close(self) -> None:
        """Stop delivery of all sources. Messages in transit belong to no epoch afterwards."""
        ...

    def highwater(self, source: SourcePartition) -> int | None:
        """Return the end offset of the last fetch, or None."""
        ...


class TableStore(Protocol):
    """Keyed state of a partition, with a changelog."""

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        """Return the value of `key`, or None. Raises KeyError if the partition is not owned."""
        ...

    async def put(self, table: str, partition: int, entries: Mapping[bytes, bytes]) -> None:
        """Upsert `entries`. They are visible, and the call returns, once the changelog has stored them durably.

        Raises TransactionFailed if the changelog cannot be written.
        """
        ...

    def exclusive(self, table: str, partition: int) -> AbstractAsyncContextManager[None]:
        """Return a lock on one table partition, for a read-modify-write."""
        ...
