"""archive: results in, Parquet files on S3 out; commits offsets alone, after a file that covers them is stored."""

from __future__ import annotations

from typing import Final

import faust

from agents.pumping import AgentHost, attach_pump
from app.domain.archive import ARCHIVABLE

SOURCES: Final = ARCHIVABLE


def attach(app: faust.App, host: AgentHost) -> None:
    """Pump those sources that the settings choose."""
    for topic in host.sources:
        attach_pump(app, host, topic, f"archive-{topic}")
