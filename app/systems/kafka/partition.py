"""Where a key lies: the partition that every Kafka client's default partitioner gives it."""

from __future__ import annotations


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition (murmur2) of `key` on a topic of so many partitions."""
    from aiokafka.partitioner import murmur2

    found: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return found
