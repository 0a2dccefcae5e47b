"""Creation, listing and revocation of API keys, as records on `control.v1`."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from app.domain.api_keys import (
    API_KEY_KIND,
    ID_BYTES,
    SECRET_BYTES,
    ApiKey,
    Scope,
    Token,
    key_body,
    key_of,
    make_token,
)
from app.errors import ConfigurationError
from app.pipeline.control_topic import control_key, read_control
from app.ports.clock import Clock
from app.ports.publishing import Producer
from app.ports.records import RecordCodec
from app.ports.topics import TopicLog
from app.topics import CONTROL, DAY_MS
from schemas.records import ControlRecord


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """Properties of a new key. `days` None: it does not expire. `rate_per_second` None: the default of the settings."""

    name: str
    scopes: frozenset[Scope]
    days: float | None = None
    rate_per_second: float | None = None


async def create_key(
    producer: Producer, codec: RecordCodec, clock: Clock, request: KeyRequest, written_by: str
) -> tuple[Token, ApiKey]:
    """Publish a new key and return its token, which is stored nowhere. Raises BrokerUnavailable."""
    now_ms = clock.now_ms()
    token = make_token(secrets.token_bytes(ID_BYTES), secrets.token_bytes(SECRET_BYTES))
    key = ApiKey(
        token.key_id,
        request.name,
        request.scopes,
        token.secret_sha256,
        now_ms,
        None if request.days is None else now_ms + round(request.days * DAY_MS),
        rate_per_second=request.rate_per_second,
    )
    await _publish(producer, codec, key, now_ms, written_by)
    return token, key


async def read_keys(log: TopicLog, codec: RecordCodec) -> dict[str, ApiKey]:
    """Return all keys by id, oldest first. Raises BrokerUnavailable, StartupRefused."""
    records = await read_control(log, codec, API_KEY_KIND)
    keys: Iterable[ApiKey] = filter(None, (key_of(name, control.body) for (_, name), control in records.items()))
    return {key.id: key for key in sorted(keys, key=lambda key: (key.created_ms, key.id))}


async def revoke_key(
    log: TopicLog, producer: Producer, codec: RecordCodec, clock: Clock, key_id: str, written_by: str
) -> ApiKey:
    """Revoke the key `key_id` and return it. Idempotent.

    Raises ConfigurationError for an unknown id; BrokerUnavailable.
    """
    key = (await read_keys(log, codec)).get(key_id)
    if key is None:
        raise ConfigurationError(f"no API key has the id {key_id}; `./sightline api keys ls` lists them")
    if not key.revoked:
        key = key.revoke()
        await _publish(producer, codec, key, clock.now_ms(), written_by)
    return key


async def _publish(producer: Producer, codec: RecordCodec, key: ApiKey, now_ms: int, written_by: str) -> None:
    record = ControlRecord(API_KEY_KIND, key.id, key_body(key), now_ms, written_by)
    await producer.send_and_wait(CONTROL, control_key(API_KEY_KIND, key.id), codec.encode(record))
