"""What the routes work with; made once by app/api/serve.py, found by `parts_of`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from starlette.requests import HTTPConnection

from app.adapters.prometheus import PrometheusMeters
from app.api.live import LiveParts
from app.api.readiness import Check
from app.ports import Clock, Index, RecordCodec
from app.settings import Settings


@dataclass(slots=True)
class ApiParts:
    """One for each process. What is None is switched off or not ready yet, and its routes say so."""

    settings: Settings
    clock: Clock
    codec: RecordCodec
    index: Index
    meters: PrometheusMeters
    live: LiveParts
    # What /readyz asks; whoever brings a part that requests need appends its check.
    checks: list[Check] = field(default_factory=list)


def parts_of(request: HTTPConnection) -> ApiParts:
    """Return the parts of the application that serves `request`."""
    return cast("ApiParts", request.app.state.parts)
