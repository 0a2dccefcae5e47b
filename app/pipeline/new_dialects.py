"""Counters of events from stores and versions without a row in the table of dialects. Each is logged once."""

from __future__ import annotations

import logging
from typing import Final

from app.domain.events import Created, Ignored, Removed, dialects
from app.metrics import Meters

# Bound of the labels: the sender chooses the text of an event source. Further ones count as `more` and are not logged.
MAX_LABELS: Final = 20
MORE: Final = "more"
_VERSION: Final = "version"
_DIALECT: Final = "dialect"

_log = logging.getLogger(__name__)


class NewDialects:
    """Counter of unknown dialects and versions. Bounds the labels of both metrics and the log lines."""

    def __init__(self, meters: Meters | None) -> None:
        self._meters = meters
        self._labels: dict[str, set[str]] = {_DIALECT: set(), _VERSION: set()}

    def note(self, event: Created | Removed | Ignored) -> None:
        """Count `event` if its source or its major version is unknown. Log each of them once."""
        if event.new_version:
            label, first = self._label(_VERSION, f"{event.dialect} {event.new_version}")
            if first:
                _log.warning(
                    "events of dialect %s have version %s, which is new: they are read as before, because bucket and "
                    "key are in the known fields. Compare one with docs/events.md",
                    event.dialect,
                    event.new_version,
                )
            if self._meters is not None:
                self._meters.count("sightline_events_new_version_total", version=label)
        if dialects.is_other(event.dialect):
            label, first = self._label(_DIALECT, event.dialect)
            if first:
                _log.warning(
                    "events of dialect %s have no row in the table of dialects: they are read by their shape. "
                    "docs/events.md explains how to add a row",
                    event.dialect,
                )
            if self._meters is not None:
                self._meters.count("sightline_events_other_dialect_total", dialect=label)

    def _label(self, kind: str, name: str) -> tuple[str, bool]:
        """Return the label for `name`, and whether this is its first event."""
        seen = self._labels[kind]
        if name in seen:
            return name, False
        if len(seen) < MAX_LABELS:
            seen.add(name)
            return name, True
        return MORE, False
