"""The form of an agent's declaration."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from app.metrics import Meters
from app.ports.clock import Clock
from app.ports.processing import LaneStatus, Processor, Tables
from app.ports.records import RecordCodec
from app.settings import LaneSettings, Settings
from app.topics import DEAD_LETTERS, TableSpec, group_of


@dataclass(frozen=True, slots=True)
class Wiring:
    """Parts of a worker from which a processor may be built."""

    settings: Settings
    agent: str
    worker_id: str
    release: str
    clock: Clock
    codec: RecordCodec
    status: LaneStatus
    meters: Meters
    tables: Tables | None


def _max_in_flight(settings: Settings) -> int:
    return settings.engine.max_in_flight


@dataclass(frozen=True, slots=True)
class Source:
    """One topic that an agent reads as lanes, one lane for each partition.

    `credits` returns how many records of the topic may be in hand. `yields_to` names another source of the agent whose
    records go first.
    """

    topic: str
    credits: Callable[[Settings], int] = _max_in_flight
    yields_to: str | None = None


def _lane(settings: Settings) -> LaneSettings:
    return settings.lane


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent. `outputs` are the topics that it writes, besides dead letters.

    `processor` is None if app/compose/processors.py builds the processor, because it holds connections or models.
    """

    name: str
    purpose: str
    sources: tuple[Source, ...]
    outputs: tuple[str, ...] = ()
    processor: Callable[[Wiring], Processor] | None = None
    # If not every source is read: returns the topics that the settings choose, or raises ConfigurationError.
    chosen: Callable[[Settings], Collection[str]] | None = None
    # Returns the bounds of a release.
    lane: Callable[[Settings], LaneSettings] = _lane
    tables: tuple[TableSpec, ...] = ()
    # Whether it makes dead letters of records that an operator has parked or that crash its workers.
    parks: bool = True
    # Whether an installation may run without it.
    optional: bool = False

    @property
    def group(self) -> str:
        """The consumer group, without the installation's prefix."""
        return group_of(self.name)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of all sources."""
        return tuple(source.topic for source in self.sources)

    @property
    def writes(self) -> tuple[str, ...]:
        """The topics that it writes, dead letters included."""
        return (*self.outputs, DEAD_LETTERS) if self.parks else self.outputs

    def sources_by(self, settings: Settings) -> tuple[Source, ...]:
        """Return the sources that a worker with these settings reads. Raises ConfigurationError."""
        if self.chosen is None:
            return self.sources
        chosen = self.chosen(settings)
        return tuple(source for source in self.sources if source.topic in chosen)
