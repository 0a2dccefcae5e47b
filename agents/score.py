"""score: image tasks in, predictions and embeddings out; the only agent with tables and models."""

from __future__ import annotations

from typing import Final

import faust

from agents.pumping import AgentHost, attach_pump
from app.topics import BACKFILL, TASKS

SOURCES: Final = (TASKS, BACKFILL)


def attach(app: faust.App, host: AgentHost) -> None:
    """Pump every source of this agent."""
    for topic in SOURCES:
        attach_pump(app, host, topic, f"score-{topic}")
