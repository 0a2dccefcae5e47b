"""retry: deferred tasks wait until they are due and go back to their lane of origin; one topic for each delay."""

from __future__ import annotations

from typing import Final

import faust

from agents.pumping import AgentHost, attach_pump
from app.topics import RETRIES_1H, RETRIES_5M, RETRIES_30S

SOURCES: Final = (RETRIES_30S, RETRIES_5M, RETRIES_1H)


def attach(app: faust.App, host: AgentHost) -> None:
    """Pump every source of this agent."""
    for topic in SOURCES:
        attach_pump(app, host, topic, f"retry-{topic}")
