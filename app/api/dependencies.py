"""Objects that the routes use; created once by app/api/serve.py, returned by `parts_of`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import HTTPConnection

from app.access.failed_sign_ins import FailedSignIns
from app.access.keys import KeyRing
from app.access.ports import Sessions
from app.access.rates import Rates
from app.api.live_views import LiveParts
from app.api.pictures import PictureParts
from app.api.readiness import Check
from app.moderation.decisions import Decisions
from app.moderation.ports import DecisionLog
from app.ports.clock import Clock
from app.ports.index import Index
from app.ports.moderation import ModerationQueue
from app.ports.records import RecordCodec
from app.serving.ports import ImageWatch
from app.settings import Settings
from app.systems.prometheus import PrometheusMeters


@dataclass(slots=True)
class ApiParts:
    """Objects of one process. A field is None while it is switched off or not ready; its routes then answer 503."""

    settings: Settings
    clock: Clock
    codec: RecordCodec
    index: Index
    meters: PrometheusMeters
    keys: KeyRing
    sessions: Sessions
    rates: Rates
    sign_ins: FailedSignIns
    watch: ImageWatch
    queue: ModerationQueue
    decision_log: DecisionLog
    decisions: Decisions
    live: LiveParts
    pictures: PictureParts | None = None
    checks: list[Check] = field(default_factory=list)
    """Readiness checks of /readyz; each part that requests need appends its own."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service ends, so that waiting requests answer at once."""


def parts_of(request: HTTPConnection) -> ApiParts:
    """Return the objects of the application that serves `request`."""
    return cast("ApiParts", request.app.state.parts)
