"""identify: raw S3 notifications in, image tasks and removals out."""

from __future__ import annotations

from typing import Final

import faust

from agents.pumping import AgentHost, attach_pump
from app.topics import UPLOADS

SOURCES: Final = (UPLOADS,)


def attach(app: faust.App, host: AgentHost) -> None:
    """Pump every source of this agent."""
    for topic in SOURCES:
        attach_pump(app, host, topic, f"identify-{topic}")
