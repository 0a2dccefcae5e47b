"""Models of the query service: loaded in the background, used by one scorer, closed at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal

from app.domain.policy import Policy
from app.errors import ScoringUnavailable
from app.inference.active import load_active
from app.inference.decoding.pool import Decoding
from app.inference.engine import Engine
from app.inference.registry import Registry
from app.metrics import Meters
from app.pipeline.contents import Contents
from app.pipeline.policies import load_policy
from app.ports.clock import Clock
from app.serving.admission import Admission
from app.serving.ports import ContentCache
from app.serving.score_content import ContentScorer
from app.settings import Settings

logger = logging.getLogger(__name__)
State = Literal["off", "loading", "ready", "failed"]
Load = Callable[[Settings], tuple[Registry, Policy | None]]


def load_models(settings: Settings) -> tuple[Registry, Policy | None]:
    """Load the models and the policy as a worker does. Blocks for seconds. Raises Fatal."""
    policy = load_policy(settings.policy.path, settings.inference.models_dir)
    return load_active(settings.inference), policy


class Scoring:
    """Background loading of the models for a scorer. Belongs to one event loop, which it does not block."""

    def __init__(
        self,
        settings: Settings,
        decoding: Decoding,
        cache: ContentCache,
        clock: Clock,
        meters: Meters,
        load: Load = load_models,
    ) -> None:
        self._settings = settings
        self._decoding = decoding
        self._cache = cache
        self._clock = clock
        self._meters = meters
        self._load = load
        self._loading: asyncio.Task[None] | None = None
        self._engine: Engine | None = None
        self._scorer: ContentScorer | None = None

    def start(self) -> None:
        """Start loading, unless the settings switch scoring off."""
        if self._settings.api.score and self._loading is None:
            self._loading = asyncio.create_task(self._prepare(), name="load models")
            self._loading.add_done_callback(_log)

    @property
    def state(self) -> State:
        """State of loading. The service is ready in the states `ready` and `off`; `failed` is final."""
        if self._loading is None:
            return "off"
        if not self._loading.done():
            return "loading"
        return "failed" if self._engine is None or self._engine.failure is not None else "ready"

    @property
    def models(self) -> tuple[str, ...]:
        """Return name@version of every active model; none before they are loaded."""
        return tuple(manifest.id for manifest in self._engine.registry.manifests) if self._engine is not None else ()

    def scorer(self) -> ContentScorer:
        """Return the scorer. Raises ScoringUnavailable(`scoring_off` | `models_loading` | `models_failed`)."""
        match self.state:
            case "off":
                raise ScoringUnavailable("scoring_off", "this process does not score: SIGHTLINE_API_SCORE is false")
            case "loading":
                raise ScoringUnavailable("models_loading", "the models are being loaded")
            case "failed":
                raise ScoringUnavailable("models_failed", "the models do not work; the log says why")
            case "ready":
                assert self._scorer is not None
                return self._scorer

    async def ready(self) -> str:
        """Return the text of a readiness check. Raises ScoringUnavailable if nothing can be scored."""
        if self.state == "off":
            return "switched off"
        self.scorer()
        return ", ".join(self.models)

    async def _prepare(self) -> None:
        registry, policy = await asyncio.to_thread(self._load, self._settings)
        settings = self._settings
        self._engine = Engine(registry, settings.limits, settings.inference, settings.engine, self._decoding)
        self._scorer = ContentScorer(
            Contents(self._engine),
            self._cache,
            Admission(settings.api.score_in_flight, self._clock),
            policy=policy,
            clock=self._clock,
            meters=self._meters,
        )
        logger.info("models loaded on %s: %s", registry.device, ", ".join(self.models))

    async def close(self) -> None:
        """Close the engine. Waits for a batch on the device, cancels what waits for a batch."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        if self._scorer is not None:
            await self._scorer.close()
        if self._engine is not None:
            await self._engine.close()


def _log(loading: asyncio.Task[None]) -> None:
    if not loading.cancelled() and (error := loading.exception()) is not None:
        logger.error("the models cannot be loaded: %s", error, exc_info=error)
