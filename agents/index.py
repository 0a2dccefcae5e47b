"""index: tasks, outcomes, removals, flags and decisions in, Redis out; commits offsets alone, after its answer."""

from __future__ import annotations

from typing import Final

import faust

from agents.pumping import AgentHost, attach_pump
from app.topics import DECISIONS, FLAGGED, PREDICTIONS, REMOVED, TASKS

SOURCES: Final = (TASKS, PREDICTIONS, REMOVED, FLAGGED, DECISIONS)


def attach(app: faust.App, host: AgentHost) -> None:
    """Pump every source of this agent."""
    for topic in SOURCES:
        attach_pump(app, host, topic, f"index-{topic}")
