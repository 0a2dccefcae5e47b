"""Faust's Kafka transport with what this project may not leave to Faust, under its own broker URL scheme.

- Faust never commits and keeps no acknowledgements: offsets belong to our transactions, and each transaction marker
  would leak an interval.
- Source partitions are opened by us, not by Faust: it resumes them before it seeks, and then loses what was queued.
  They stay closed until their lane's producer has fenced all older owners and the committed offset was read again.
- The consumer reads committed records only; Faust has no setting for that.
- A topic whose pump is behind is not fetched. Faust would fetch on until that topic's buffer is full and then wait for
  it in its one loop: no live upload would be read while backfill is worked off, no retry that is due while those of an
  hour are not.

Private methods are overridden here; tests/unit/systems/faust/test_pins.py fails when their source changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

import faust
import faust.streams
from aiokafka.errors import KafkaError
from faust.tables.recovery import Recovery
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.errors import BrokerUnavailable, StartupRefused
from app.streaming.delivery import DeliveryLog
from app.streaming.ports import Opened, SourcePartition

SCHEME: Final = "sightline"
FAUST_VERSION: Final = "0.15.3"
_ISOLATION: Final = "read_committed"
# Messages of one topic that wait for its pump at most (some 1 KB each), and those of one fetch at most: a topic is
# fetched while there is room for a whole fetch.
TOPIC_BUFFER: Final = 1024
FETCH_RECORDS: Final = 500
# How soon a topic that had no room is looked at again: until then its pump has half a buffer to work on.
_CROWDED_SECONDS: Final = 0.02


class RebalanceHooks:
    """What the worker does at a rebalance; the transport calls it on the main loop."""

    def __init__(
        self,
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[frozenset[SourcePartition]], None],
        recovered: Callable[[], None],
    ) -> None:
        self.revoked = revoked
        self.assigned = assigned
        self.recovered = recovered


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread with aiokafka's consumer."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Read by AIOKafkaConsumer.start, which comes later.
        consumer._isolation_level = _ISOLATION
        return consumer

    _locating: object = None

    async def locate(self, tps: list[Any]) -> dict[Any, tuple[int | None, int]]:
        """Seek `tps` to their committed offsets, or to the start, and return both offsets."""
        # A cancelled caller does not stop the thread: an older search must not seek after a newer one.
        self._locating = search = object()
        return await self.call_thread(self._locate, tps, search)  # type: ignore[no-any-return]

    async def _locate(self, tps: list[Any], search: object) -> dict[Any, tuple[int | None, int]]:
        consumer = self._ensure_consumer()
        starts = await consumer.beginning_offsets(tps)
        found: dict[Any, tuple[int | None, int]] = {}
        for tp in tps:
            committed = await consumer.committed(tp)
            start = starts[tp]
            if self._locating is not search:
                raise BrokerUnavailable("a newer generation took over")
            consumer.seek(tp, start if committed is None else max(committed, start))
            found[tp] = (committed, start)
        return found


class Consumer(driver.Consumer):
    """Faust's consumer, without its commits, and with sources that only we open. See SourceControl."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._epochs: dict[SourcePartition, int] = {}
        self._fetched_in: dict[SourcePartition, int] = {}
        self._next_offset: dict[SourcePartition, int] = {}
        self.deliveries = DeliveryLog()
        self.hooks: RebalanceHooks | None = None

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # --- no commits, no acknowledgements ---

    def _new_offset(self, tp: Any) -> int | None:
        return None

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        return None

    # --- sources are opened by the lanes ---

    async def perform_seek(self) -> None:
        """Nothing: `locate` seeks sources, recovery seeks changelogs."""

    def resume_partitions(self, tps: Iterable[Any]) -> None:
        """Resume changelogs; sources wait for `begin`."""
        super().resume_partitions({tp for tp in tps if self._is_changelog_tp(tp)})

    async def locate(self, sources: Iterable[SourcePartition]) -> Mapping[SourcePartition, Opened]:
        """See SourceControl."""
        tps = {source: TP(*source) for source in sources}
        try:
            found = await self._thread.locate(list(tps.values()))
        except (KafkaError, OSError) as error:
            raise BrokerUnavailable(f"cannot read committed offsets: {error}") from error
        # Faust's streams skip messages of another generation than the running one; so that is the epoch.
        epoch = self.app.consumer_generation_id
        opened = {}
        for source, tp in tps.items():
            committed, start = found[tp]
            position = start if committed is None else max(committed, start)
            opened[source] = Opened(epoch, position, 0 if committed is None else max(0, start - committed))
        return opened

    def begin(self, opened: Mapping[SourcePartition, Opened]) -> None:
        """See SourceControl."""
        for source, where in opened.items():
            self._epochs[source] = where.epoch
            self._next_offset[source] = where.position
            self.deliveries.opened(source, where.epoch)
            # Faust drops what lies below the offset that it read last.
            self._read_offset[TP(*source)] = None
        super().resume_partitions({TP(*source) for source in opened})

    def close_sources(self) -> None:
        """Deliver nothing more of any source."""
        self.pause_partitions({TP(*source) for source in self._epochs})
        self._epochs.clear()
        self.deliveries.closed()

    def end_offset(self, source: SourcePartition) -> int | None:
        """Return the end offset that the last fetch reported, or None."""
        tp = TP(*source)
        if self._thread._consumer is None or tp not in self.assignment():
            return None
        end: int | None = self._thread._consumer.last_stable_offset(tp)
        return end

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
        # Faust passes the set itself and changes it meanwhile; a partition that is opened during a fetch would be
        # read from a position before its seek. One fetch runs at a time, so the epochs of it can be kept here.
        crowded = self._crowded()
        fetched = {tp for tp in active_partitions if tp.topic not in crowded}
        self._fetched_in = {source: epoch for source, epoch in self._epochs.items() if TP(*source) in fetched}
        if not fetched:
            # aiokafka takes an empty set for all partitions.
            await asyncio.sleep(_CROWDED_SECONDS)
            return {}
        return await super()._getmany(fetched, min(timeout, _CROWDED_SECONDS) if crowded else timeout)

    def _crowded(self) -> set[str]:
        """Return the topics whose buffers have no room for a whole fetch."""
        # Faust's own count, not that of `deliveries`: what Faust should lose would stay in it for ever, and without a
        # next message to compare with nobody would notice.
        full = [channel for channel in self.app.topics if channel.queue.qsize() + FETCH_RECORDS > TOPIC_BUFFER]
        return {topic for channel in full for topic in channel.topics}

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Any]]:
        """Yield what was fetched; of sources only what belongs to the running epoch, noted in `deliveries`."""
        async for tp, message in super().getmany(timeout):
            if not self._is_changelog_tp(tp):
                source = SourcePartition(tp.topic, tp.partition)
                epoch = self._epochs.get(source)
                if epoch is None or not epoch == self._fetched_in.get(source) == message.generation_id:
                    continue
                if message.offset < self._next_offset[source]:
                    continue
                self._next_offset[source] = message.offset + 1
                self.deliveries.handed(source, epoch, message.offset)
            yield tp, message

    # --- rebalances ---

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Stop the flow, let the lanes finish and close, then let Faust clear its queues."""
        self.stop_flow()
        if self.hooks is not None:
            await self.hooks.revoked()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        """Note the sources; they are opened when Faust has recovered the tables."""
        if self.hooks is not None:
            self.hooks.assigned(
                frozenset(SourcePartition(tp.topic, tp.partition) for tp in assigned if not self._is_changelog_tp(tp))
            )
        await super().on_partitions_assigned(assigned, generation_id)


class SourceGate:
    """The SourceControl of an app, whose consumer exists only once the app has started."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def locate(self, sources: Iterable[SourcePartition]) -> Mapping[SourcePartition, Opened]:
        """See SourceControl."""
        return await self._app.consumer.locate(sources)  # type: ignore[no-any-return]

    def begin(self, opened: Mapping[SourcePartition, Opened]) -> None:
        """See SourceControl."""
        self._app.consumer.begin(opened)

    def close(self) -> None:
        """See SourceControl."""
        self._app.consumer.close_sources()

    def highwater(self, source: SourcePartition) -> int | None:
        """See SourceControl."""
        return self._app.consumer.end_offset(source)  # type: ignore[no-any-return]


class Producer(driver.Producer):
    """Faust's own producer; nothing of ours goes through it, but should Faust send, then without duplicates."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):
    """Registered under the scheme `sightline`."""

    Consumer = Consumer
    Producer = Producer


class BulkRecovery(Recovery):
    """Table recovery that first loads cold partitions in bulk (`preload`, set by the tables adapter)."""

    preload: Callable[[frozenset[Any]], Awaitable[Mapping[Any, int]]] | None = None
    _preload_due = False

    async def on_rebalance(self, *args: Any, **kwargs: Any) -> None:
        """Note that a recovery is about to begin."""
        self._preload_due = True
        await super().on_rebalance(*args, **kwargs)

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        await super()._wait(coro, timeout)
        # The first wait of each recovery is its delay: nothing has been read yet, and a rebalance may still come.
        if self._preload_due and self.preload is not None:
            self._preload_due = False
            await super()._wait(self._load(self.preload))

    async def _load(self, preload: Callable[[frozenset[Any]], Awaitable[Mapping[Any, int]]]) -> None:
        for tp, offset in (await preload(frozenset(self.active_tps))).items():
            self.active_offsets[tp] = offset


class App(faust.App):
    """A Faust app that tells us of crashes and of the end of each rebalance."""

    on_failure: Callable[[BaseException], None] | None = None
    hooks: RebalanceHooks | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deliveries = DeliveryLog()

    def _new_consumer(self) -> Any:
        consumer = super()._new_consumer()
        consumer.hooks = self.hooks
        consumer.deliveries = self.deliveries
        return consumer

    def use_bulk_recovery(self, preload: Callable[[frozenset[Any]], Awaitable[Mapping[Any, int]]]) -> None:
        """Load cold tables through `preload` before Faust's own recovery."""
        recovery = BulkRecovery(self, self.tables, beacon=self.tables.beacon, loop=self.loop)
        recovery.preload = preload
        self.tables._recovery = recovery

    def on_rebalance_end(self) -> None:
        """Faust has recovered all tables and cleared its queues."""
        super().on_rebalance_end()
        if self.hooks is not None:
            self.hooks.recovered()

    def _crash(self, reason: BaseException) -> None:
        super()._crash(reason)
        if self.on_failure is not None:
            self.on_failure(reason)


def register(aliases: MutableMapping[str, Any] = TRANSPORTS.aliases) -> None:
    """Make Faust know the scheme; refuse a Faust whose insides are not those that this file overrides."""
    if faust.__version__ != FAUST_VERSION:
        raise StartupRefused(f"Faust {faust.__version__} is installed, this release needs {FAUST_VERSION} exactly")
    if faust.streams._CStreamIterator is None:
        raise StartupRefused(
            "Faust's compiled stream is missing (NO_CYTHON is set, or no wheel for this platform); its pure Python "
            "twin acknowledges events of an older generation"
        )
    aliases[SCHEME] = f"{__name__}:Transport"


def broker_urls(bootstrap: str) -> list[str]:
    """Return Faust's form of a host:port list."""
    return [f"{SCHEME}://{part.strip()}" for part in bootstrap.split(",") if part.strip()]
