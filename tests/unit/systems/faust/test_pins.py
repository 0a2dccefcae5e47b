"""The private methods that we override, or rely on, are those that were read. A changed digest means: read again.

`python -m tests.unit.systems.faust.test_pins` prints the digests of what is installed.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from importlib.metadata import version

import pytest

# Overridden, or extended by super(), in transport.py and tables.py of app/systems/faust; the last ones are
# relied on: what they do between the calls is why the overrides are safe.
PINNED = {
    "faust.transport.consumer:Consumer._new_offset": "1d2c7ea89a7a",
    "faust.transport.consumer:Consumer._add_gap": "4df2573ded7c",
    "faust.transport.consumer:Consumer.perform_seek": "0e8c130ff4b0",
    "faust.transport.consumer:Consumer.resume_partitions": "afe6b7c02a41",
    "faust.transport.consumer:Consumer.pause_partitions": "27a1c94bdacd",
    "faust.transport.consumer:Consumer.getmany": "4b168d84882a",
    "faust.transport.consumer:Consumer._wait_next_records": "6218e1969a63",
    "faust.transport.consumer:Consumer._drain_messages": "44a2500309e8",
    "faust.transport.consumer:Consumer.on_partitions_revoked": "d04b7ae72c6f",
    "faust.transport.consumer:Consumer.on_partitions_assigned": "29ce96596f05",
    "faust.transport.consumer:ThreadDelegateConsumer._getmany": "f9d47aa9010b",
    "faust.transport.drivers.aiokafka:Consumer._new_consumer_thread": "0870ec53dea7",
    "faust.transport.drivers.aiokafka:Consumer._to_message": "7c24f6511b2f",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._create_worker_consumer": "c2701bfc3e6f",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._fetch_records": "39a2c6c79fc1",
    "faust.transport.drivers.aiokafka:Producer._settings_extra": "a4c7bc41b638",
    "faust.transport.conductor:Conductor._update_tp_index": "e8e3ac9025ef",
    "faust.app.base:App._new_consumer": "bff6ccd646b7",
    "faust.app.base:App.on_rebalance_end": "b7ff69e1e377",
    "faust.app.base:App._on_partitions_revoked": "d5c895bbe57d",
    "faust.app.base:App._on_partitions_assigned": "de932b7927db",
    "faust.tables.recovery:Recovery.on_rebalance": "aa4d997a1795",
    "faust.tables.recovery:Recovery._wait": "ec7429b70176",
    "faust.tables.recovery:Recovery._restart_recovery": "6bd8a8558a2d",
    "faust.tables.recovery:Recovery._resume_streams": "d986a6710c1a",
    "faust.tables.recovery:Recovery.on_recovery_completed": "6ef567acf072",
    "faust.tables.recovery:Recovery._build_offsets": "27eec86be06c",
    "faust.stores.rocksdb:RocksDBOptions.as_options": "d2a1bea17736",
    "faust.stores.rocksdb:RocksDBOptions.open": "ff87e92d69e2",
    "faust.stores.rocksdb:Store.__init__": "c7c0fa2989e8",
    "faust.stores.rocksdb:Store.persisted_offset": "6f2e502fb860",
    "faust.stores.rocksdb:Store.assign_partitions": "34dc27ace6dd",
    "faust.stores.rocksdb:Store.revoke_partitions": "3f85447a24fc",
    "faust.assignor.partition_assignor:PartitionAssignor._perform_assignment": "1e0bf2c5c8f4",
    "mode.services:Service._crash": "7bc0c709a151",
    "mode.services:Service.crash": "14980000465d",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.start": "2f1ba7044332",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.committed": "d8706147ab15",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.seek": "a9430f1f3b9a",
    "aiokafka.consumer.fetcher:Fetcher.fetched_records": "be4348896b9b",
    "aiokafka.producer.producer:AIOKafkaProducer.stop": "43ef97147111",
    "aiokafka.producer.sender:Sender._maybe_do_transactional_request": "71227a8a4d9c",
}


def digest(name: str) -> str:
    """Return a short digest of the source of `module:Class.method`."""
    module, _, path = name.partition(":")
    found: object = importlib.import_module(module)
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
    task = getattr(found, "fun", found)  # mode wraps its task methods
    return hashlib.sha256(inspect.getsource(inspect.unwrap(task)).encode()).hexdigest()[:12]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PINNED)
def test_the_source_is_what_was_read(name: str) -> None:
    assert digest(name) == PINNED[name], f"read {name} again, then pin its digest here"


def test_the_versions_are_exact() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("mode-streaming") == "0.7.1"
    assert version("aiokafka") == "0.14.0"
    assert version("rocksdict") == "0.3.29"


if __name__ == "__main__":
    for each in PINNED:
        print(f'    "{each}": "{digest(each)}",')
