"""index: predictions, removals and flags in, Redis out; commits offsets alone, after Redis has answered."""

from __future__ import annotations

from typing import Final

import faust

from agents.pumping import AgentHost, attach_pump
from app.topics import FLAGGED, PREDICTIONS, REMOVED

SOURCES: Final = (PREDICTIONS, REMOVED, FLAGGED)


def attach(app: faust.App, host: AgentHost) -> None:
    """Pump every source of this agent."""
    for topic in SOURCES:
        attach_pump(app, host, topic, f"index-{topic}")
