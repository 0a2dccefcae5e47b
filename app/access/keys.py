"""API keys of a process: read from `control.v1` at its start, then followed while it runs."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from contextlib import aclosing
from typing import Final

from app.domain.api_keys import API_KEY_KIND, ApiKey, key_of, parse_token
from app.errors import BrokerUnavailable, Poison, StartupRefused
from app.pipeline.control_topic import control_key, control_records
from app.ports.clock import Clock
from app.ports.records import RecordCodec, SourceRecord
from app.ports.topics import Follower, TopicLog
from app.topics import CONTROL
from schemas.records import ControlRecord

logger = logging.getLogger(__name__)
_KEY_PREFIX: Final = control_key(API_KEY_KIND, "")
# A new key works, and a revoked one stops working, after this and the time of a fetch.
_POLL_SECONDS: Final = 0.5
# A consumer cannot distinguish a quiet topic from a broker outage, so the broker is asked.
_ASK_SECONDS: Final = 2.0
_AGAIN_SECONDS: Final = 1.0
# Two requests and their timeouts.
_DEAF_MS: Final = 15_000
# The secret of an unknown id is compared with this, so that the answer takes as long as for a known id.
_NO_SECRET: Final = hashlib.sha256(b"no key has this secret").hexdigest()


class KeyRing:
    """Latest record of each key. Reads are dictionary look-ups, cheap enough for every request."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, tuple[int, ApiKey | None]] = {}
        # Valid tokens by the digest of the whole token; at most one entry per key.
        self._right: dict[bytes, ApiKey] = {}
        self._heard_ms: int | None = None
        self.generation = 0
        self.filled = asyncio.Event()

    @property
    def ready(self) -> bool:
        """True after the keys were read once; before that no token may be called wrong."""
        return self.filled.is_set()

    @property
    def healthy(self) -> bool:
        """True if new and revoked keys arrive. Keys that were read stay valid in any case."""
        return self._heard_ms is not None and self._clock.now_ms() - self._heard_ms < _DEAF_MS

    @property
    def heard_ms(self) -> int | None:
        """Time of the broker's last answer; None if it never answered."""
        return self._heard_ms

    def find(self, token: str) -> ApiKey | None:
        """Return the key of `token`; None if the token is unknown, wrong, expired or revoked."""
        digest = hashlib.sha256(token.encode()).digest()
        key = self._right.get(digest)
        if key is None:
            key = self._match(token)
            if key is None:
                return None
            self._right[digest] = key
        return key if key.valid_at(self._clock.now_ms()) else None

    def valid(self, key_id: str) -> ApiKey | None:
        """Return the key with this id; None if it is unknown, expired or revoked."""
        _, key = self._keys.get(key_id, (0, None))
        return key if key is not None and key.valid_at(self._clock.now_ms()) else None

    def _match(self, token: str) -> ApiKey | None:
        parts = parse_token(token)
        if parts is None:
            return None
        _, key = self._keys.get(parts.key_id, (0, None))
        right = hmac.compare_digest(parts.secret_sha256, _NO_SECRET if key is None else key.secret_sha256)
        return key if right else None

    def learn(self, key_id: str, key: ApiKey | None, offset: int) -> None:
        """Store the key of the record at `offset` (None: deleted), unless a later record is stored."""
        known = self._keys.get(key_id)
        if known is not None and known[0] > offset:
            return
        self._keys[key_id] = (offset, key)
        self._right.clear()
        self.generation += 1

    def replace(self, keys: dict[str, tuple[int, ApiKey | None]]) -> None:
        """Replace all keys by `keys`, each with its offset."""
        self._keys = keys
        self._right.clear()
        self.generation += 1
        self.filled.set()

    def hear(self) -> None:
        """Record an answer of the broker."""
        self._heard_ms = self._clock.now_ms()


async def follow_keys(ring: KeyRing, log: TopicLog, codec: RecordCodec, clock: Clock) -> None:
    """Follow `control.v1` into `ring`, for ever. During a broker outage the ring keeps its keys."""
    silent = False
    while True:
        try:
            # The follower starts before the topic is read, so that records in between are read twice instead of never.
            async with log.follow((CONTROL,)) as follower:
                ring.replace(await _all_keys(log, codec))
                ring.hear()
                if silent:
                    logger.info("following API keys again")
                    silent = False
                await _listen(ring, follower, codec, clock)
        except (BrokerUnavailable, StartupRefused) as error:
            if not silent:
                logger.warning("new and revoked API keys are not noticed until Kafka answers: %s", error)
            silent = True
            await clock.sleep(_AGAIN_SECONDS)


async def _all_keys(log: TopicLog, codec: RecordCodec) -> dict[str, tuple[int, ApiKey | None]]:
    newest: dict[str, tuple[int, ApiKey | None]] = {}
    async with aclosing(control_records(log, codec, API_KEY_KIND)) as records:
        async for source, control in records:
            # An unreadable record is ignored: an older record of the key stays in force.
            key = key_of(control.name, control.body)
            if key is not None:
                newest[control.name] = (source.offset, key)
    return newest


async def _listen(ring: KeyRing, follower: Follower, codec: RecordCodec, clock: Clock) -> None:
    """Apply new records. Raises BrokerUnavailable if the broker does not answer; then the topic must be read again."""
    asked = clock.monotonic()
    while True:
        records = await follower.poll(_POLL_SECONDS)
        for record in records:
            _learn(ring, record, codec)
        if records:
            ring.hear()
        if clock.monotonic() - asked >= _ASK_SECONDS:
            await follower.reach()
            ring.hear()
            asked = clock.monotonic()


def _learn(ring: KeyRing, record: SourceRecord, codec: RecordCodec) -> None:
    if record.key is None or not record.key.startswith(_KEY_PREFIX):
        return
    key_id = record.key.removeprefix(_KEY_PREFIX).decode(errors="replace")
    if record.value is None:
        ring.learn(key_id, None, record.offset)
        return
    try:
        control = codec.decode_as(record.value, ControlRecord)
    except Poison:
        return
    key = key_of(control.name, control.body)
    if key is not None and control.kind == API_KEY_KIND:
        ring.learn(control.name, key, record.offset)
