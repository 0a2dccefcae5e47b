"""moderate: predictions in, flagged images out."""

from __future__ import annotations

from typing import Final

import faust

from agents.pumping import AgentHost, attach_pump
from app.topics import PREDICTIONS

SOURCES: Final = (PREDICTIONS,)


def attach(app: faust.App, host: AgentHost) -> None:
    """Pump every source of this agent."""
    for topic in SOURCES:
        attach_pump(app, host, topic, f"moderate-{topic}")
