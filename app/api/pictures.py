"""Objects of the routes that read bytes: the models, the budget for bodies, the object store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from app.api.readiness import Check
from app.domain.filters import UploadFilter
from app.inference.decoding.pool import DecodePool
from app.metrics import Meters
from app.ports.clock import Clock
from app.ports.index import Index
from app.serving.admission import BodyRoom
from app.serving.previews import Previews
from app.serving.redis_contents import RedisContents
from app.serving.references import ReferencedObjects
from app.serving.scoring import Scoring
from app.settings import Settings
from app.systems.s3.objects import S3ObjectStore


@dataclass(frozen=True, slots=True)
class PictureParts:
    """Objects of one process."""

    scoring: Scoring
    bodies: BodyRoom
    objects: ReferencedObjects
    previews: Previews

    @property
    def check(self) -> Check:
        """Return the checks of /readyz."""
        return Check("models", self.scoring.ready)


@asynccontextmanager
async def picture_parts(settings: Settings, index: Index, clock: Clock, meters: Meters) -> AsyncIterator[PictureParts]:
    """Yield the objects at once, while the models load in the background; release everything at the end."""
    async with AsyncExitStack() as held:
        contents = RedisContents(settings.redis, index)
        held.push_async_callback(contents.close)
        store = S3ObjectStore(settings.s3)
        held.push_async_callback(store.close)
        decoding = DecodePool(settings.limits, settings.inference)
        held.push_async_callback(decoding.close)
        scoring = Scoring(settings, decoding, contents, clock, meters)
        held.push_async_callback(scoring.close)
        previews = Previews(store, decoding, settings, clock, meters)
        held.push_async_callback(previews.close)
        scoring.start()
        yield PictureParts(
            scoring=scoring,
            bodies=BodyRoom(settings.api.body_bytes_in_flight),
            objects=ReferencedObjects(store, UploadFilter.of(settings), settings.limits.max_bytes),
            previews=previews,
        )
