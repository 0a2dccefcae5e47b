"""label: decisions in, labels for training out."""

from __future__ import annotations

from typing import Final

import faust

from agents.pumping import AgentHost, attach_pump
from app.topics import DECISIONS

SOURCES: Final = (DECISIONS,)


def attach(app: faust.App, host: AgentHost) -> None:
    """Pump every source of this agent."""
    for topic in SOURCES:
        attach_pump(app, host, topic, f"label-{topic}")
