"""What the routes work with; made once by app/api/serve.py, found by `parts_of`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from starlette.requests import HTTPConnection

from app.metrics import Meters
from app.ports import Clock, Index, RecordCodec
from app.services.admission import BodyRoom
from app.services.previews import Previews
from app.services.references import ReferencedObjects
from app.services.scoring import Scoring
from app.settings import Settings


@dataclass(slots=True)
class ApiParts:
    """One for each process. What is None is switched off or not ready yet, and its routes say so."""

    settings: Settings
    clock: Clock
    codec: RecordCodec
    index: Index
    meters: Meters
    scoring: Scoring | None = None
    bodies: BodyRoom | None = None
    objects: ReferencedObjects | None = None
    previews: Previews | None = None


def parts_of(request: HTTPConnection) -> ApiParts:
    """Return the parts of the application that serves `request`."""
    return cast("ApiParts", request.app.state.parts)
