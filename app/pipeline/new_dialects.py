"""Events of stores and versions that have no row in the table of dialects: counted, and logged once each."""

from __future__ import annotations

import logging
from typing import Final

from app.domain.events import Created, Ignored, Removed, dialects
from app.metrics import Meters

# An event source is a text of whoever sends the event. Past this many the label is `more` and nothing is logged.
MAX_LABELS: Final = 20
MORE: Final = "more"
_VERSION: Final = "version"
_DIALECT: Final = "dialect"

_log = logging.getLogger(__name__)


class NewDialects:
    """Bounds the labels of both metrics and the lines in the log, whatever the events say."""

    def __init__(self, meters: Meters | None) -> None:
        self._meters = meters
        self._labels: dict[str, set[str]] = {_DIALECT: set(), _VERSION: set()}

    def note(self, event: Created | Removed | Ignored) -> None:
        """Count `event` if its source or its major version is unknown; log each of them the first time."""
        if event.new_version:
            label, first = self._label(_VERSION, f"{event.dialect} {event.new_version}")
            if first:
                _log.warning(
                    "events of dialect %s have version %s, which is new: they are read as before, because bucket and "
                    "key are in their place. Compare one with docs/events.md",
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
                    "docs/events.md tells how to add a row",
                    event.dialect,
                )
            if self._meters is not None:
                self._meters.count("sightline_events_other_dialect_total", dialect=label)

    def _label(self, kind: str, name: str) -> tuple[str, bool]:
        """Return the label for `name`, and whether it is seen for the first time."""
        seen = self._labels[kind]
        if name in seen:
            return name, False
        if len(seen) < MAX_LABELS:
            seen.add(name)
            return name, True
        return MORE, False
