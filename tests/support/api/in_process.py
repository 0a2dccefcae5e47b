"""The query service in process, on memory twins: parts, keys, and a client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import cast

import httpx
from fastapi import FastAPI

from app.access.failed_sign_ins import FailedSignIns
from app.access.keys import KeyRing
from app.access.rates import Rates
from app.api.dependencies import ApiParts
from app.api.live_views import LiveParts
from app.domain.api_keys import ApiKey, Token, make_token, scopes_of
from app.errors import BrokerUnavailable
from app.moderation.decisions import Decisions
from app.pipeline.index import ImageFacts
from app.ports.clock import Clock
from app.settings import Settings
from app.systems.prometheus import PrometheusMeters
from app.systems.registry.avro import Codec
from schemas.records import ModerationDecision
from tests.support.manual_clock import ManualClock
from tests.support.memory.index import MemoryIndex
from tests.support.memory.moderation import MemoryDecisionLog, MemoryModerationQueue
from tests.support.memory.sessions import MemorySessions, MemoryUse


def memory_parts(settings: Settings | None = None, clock: Clock | None = None) -> ApiParts:
    """Return parts that need nothing; the ring is read, and empty."""
    settings = settings or Settings()
    clock = clock or ManualClock()
    keys = KeyRing(clock)
    keys.replace({})
    keys.hear()
    codec, index, log = Codec(), MemoryIndex(), MemoryDecisionLog(clock)
    queue = MemoryModerationQueue(settings.moderation, clock)
    decisions = Decisions(
        facts=ImageFacts(index, queue, settings.moderation.actions),
        log=log,
        topic=MemoryDecisionTopic(),
        codec=codec,
        clock=clock,
        actions=settings.moderation.actions,
    )
    return ApiParts(
        settings=settings,
        clock=clock,
        codec=codec,
        index=index,
        watch=index,
        queue=queue,
        decision_log=log,
        decisions=decisions,
        # The live side stands on a broker; tests/support/api/over_http.py has it.
        live=cast("LiveParts", None),
        meters=PrometheusMeters(),
        keys=keys,
        sessions=MemorySessions(clock),
        rates=Rates(clock, settings.api.rate_per_second, MemoryUse()),
        sign_ins=FailedSignIns(clock),
    )


class MemoryDecisionTopic:
    """A `DecisionTopic` in a list. `available` set to False makes it answer as a broker that is away."""

    def __init__(self) -> None:
        self.available = True
        self.published: list[ModerationDecision] = []

    async def publish(self, decision: ModerationDecision, wire: bytes) -> None:
        self._check()
        self.published.append(decision)

    async def find(self, identity: str, bucket: str, key: str, since_ms: int) -> ModerationDecision | None:
        self._check()
        return next((one for one in self.published if one.decision_id == identity), None)

    def _check(self) -> None:
        if not self.available:
            raise BrokerUnavailable("the memory topic was made unavailable")


def give_key(
    parts: ApiParts,
    scopes: Iterable[str],
    *,
    name: str = "tester",
    expires_ms: int | None = None,
    rate_per_second: float | None = None,
) -> tuple[Token, ApiKey]:
    """Return a token and its key, which the ring of `parts` knows from then on."""
    number = parts.keys.generation
    entropy = hashlib.sha256(f"{name}{number}".encode()).digest()
    token = make_token(entropy[:8], entropy)
    key = ApiKey(
        token.key_id,
        name,
        scopes_of(scopes),
        token.secret_sha256,
        parts.clock.now_ms(),
        expires_ms,
        rate_per_second=rate_per_second,
    )
    parts.keys.learn(key.id, key, number)
    return token, key


def bearer(token: Token) -> dict[str, str]:
    """Return the header that carries `token`."""
    return {"Authorization": f"Bearer {token.text()}"}


def client_of(application: FastAPI) -> httpx.AsyncClient:
    """Return a client that calls `application` in process; use as `async with`."""
    transport = httpx.ASGITransport(application)
    return httpx.AsyncClient(transport=transport, base_url="http://sightline.test")
