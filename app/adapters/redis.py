"""The index in Redis (or Valkey): one string per image, per flagged image and per content.

A value is one header line (the fact's standing, tab-separated) and the record exactly as it was on its topic, so
whoever reads the topics can read it. Comparing and setting is one Lua script per fact, atomic in the server.
Keys of one image share a hash tag, so the scripts hold on a cluster's shard, too.

    <prefix>i:{<bucket>/<key>}            latest outcome, or the tombstone of a removal
    <prefix>f:{<bucket>/<key>}            latest flag
    <prefix>o:{…}, <prefix>g:{…}          the same two, of what came by the other reading of its event's key
    <prefix>v:{<bucket>/<key>}@<version>  tombstone of one version of a versioned object
    <prefix>c:{<sha256>}                  latest outcome of these bytes
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from app.adapters.unreachable import unreachable
from app.domain.standing import (
    Standing,
    content_standing,
    other_counts,
    removes_one_version,
    same_upload,
    standing_of,
)
from app.errors import IndexUnavailable, Poison
from app.ports import IndexedImage, IndexEntry, RecordCodec
from app.settings import RedisSettings
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved

_R = TypeVar("_R")
# One connection carries all of a worker's batches in turn; a server that does not answer for so long counts as away.
_SOCKET_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 3.0
_MS_PER_HOUR: Final = 3_600_000
# Letters of the keys of outcome and flag: by the first reading of the event's key, and by the other.
_FIRST: Final = ("i", "f")
_OTHER: Final = ("o", "g")

# Strings are compared by bytes: Lua's own `<` follows the server's locale.
_ORDER_LUA: Final = """
local function compare(a, b)
  local n = math.min(#a, #b)
  for i = 1, n do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then if x > y then return 1 else return -1 end end
  end
  if #a == #b then return 0 elseif #a > #b then return 1 else return -1 end
end
local function standing(value)
  local fields, from = {}, 1
  local stop = string.find(value, '\\n', 1, true)
  local line = string.sub(value, 1, stop)
  for i = 1, 7 do
    local tab = string.find(line, '[\\t\\n]', from)
    fields[i] = string.sub(line, from, tab - 1)
    from = tab + 1
  end
  return fields
end
local function order(new, old)
  if new[2] == old[2] and new[3] ~= '' and old[3] ~= '' then return compare(new[3], old[3]) end
  local a, b = tonumber(new[4]), tonumber(old[4])
  if a == b then return 0 elseif a > b then return 1 else return -1 end
end
local function replaces(new, old)
  local by_order = order(new, old)
  if by_order ~= 0 then return by_order > 0 end
  if new[1] ~= old[1] then return new[1] == '1' end
  local a, b = tonumber(new[5]), tonumber(old[5])
  if a ~= b then return a > b end
  return compare(new[6], old[6]) >= 0
end
local function put(key, value, ttl)
  if ttl == '0' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', ttl) end
end
"""
# KEYS: the fact's key, the tombstone of its version. ARGV: header line with payload, time to live.
_PUT_LUA: Final = (
    _ORDER_LUA
    + """
local new = standing(ARGV[1])
if new[7] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local old = redis.call('GET', KEYS[1])
if old and not replaces(new, standing(old)) then return 0 end
put(KEYS[1], ARGV[1], ARGV[2])
return 1
"""
)
# KEYS: image, flag, tombstone of the version. ARGV: header line, time to live, '1' when one version alone is erased.
_REMOVE_LUA: Final = (
    _ORDER_LUA
    + """
local new = standing(ARGV[1])
local old = redis.call('GET', KEYS[1])
if ARGV[3] == '1' then
  put(KEYS[3], '', ARGV[2])
  if old then
    local fields = standing(old)
    if fields[1] == '0' and fields[7] == new[7] then redis.call('DEL', KEYS[1], KEYS[2]) end
  end
  return 1
end
local flag = redis.call('GET', KEYS[2])
if flag and order(new, standing(flag)) >= 0 then redis.call('DEL', KEYS[2]) end
if old and not replaces(new, standing(old)) then return 0 end
put(KEYS[1], ARGV[1], ARGV[2])
return 1
"""
)


class RedisIndex:
    """The `Index` on a Redis server. Entries of one `apply` travel in one round trip."""

    def __init__(self, settings: RedisSettings, codec: RecordCodec) -> None:
        self._codec = codec
        self._prefix = settings.prefix
        self._image_ttl_ms = round(settings.image_days * 24 * _MS_PER_HOUR)
        self._content_ttl_ms = round(settings.content_days * 24 * _MS_PER_HOUR)
        self._tombstone_ttl_ms = round(settings.tombstone_hours * _MS_PER_HOUR)
        self._redis: Any = redis.asyncio.from_url(
            settings.url.reveal(),
            socket_timeout=_SOCKET_SECONDS,
            socket_connect_timeout=_CONNECT_SECONDS,
            # Callers decide how to wait; a silent second try here would only stretch the bound.
            retry=Retry(NoBackoff(), 0),
        )
        self._scripts: tuple[str, str] | None = None

    async def apply(self, entries: Sequence[IndexEntry]) -> None:
        """Apply `entries` in one round trip; see `Index`."""
        try:
            if self._scripts is None:
                self._scripts = (await self._redis.script_load(_PUT_LUA), await self._redis.script_load(_REMOVE_LUA))
            pipe = self._redis.pipeline(transaction=False)
            for entry in entries:
                self._queue(pipe, entry, *self._scripts)
            await pipe.execute()
        except NoScriptError as error:
            # The server was restarted or its scripts were flushed: load them with the next call.
            self._scripts = None
            raise IndexUnavailable("Redis lost its scripts (restarted?); they are loaded again") from error
        except (RedisError, OSError) as error:
            raise IndexUnavailable(self._unreachable(error)) from error

    def _queue(self, pipe: Any, entry: IndexEntry, put: str, remove: str) -> None:
        record = entry.record
        image = f"{{{record.bucket}/{record.key}}}"
        tombstone = f"{self._prefix}v:{image}@{record.version_id or ''}"
        standing = standing_of(record)
        header = _header(standing)
        reading = _OTHER if standing.other_reading else _FIRST
        outcome, flag = (f"{self._prefix}{letter}:{image}" for letter in reading)
        match record:
            case ImagePrediction():
                wire = self._codec.encode(dataclasses.replace(record, previous=())) if record.previous else entry.wire
                pipe.evalsha(put, 2, outcome, tombstone, header + wire, self._image_ttl_ms)
                if record.sha256:
                    value = _header(content_standing(record)) + wire
                    content = f"{self._prefix}c:{{{record.sha256}}}"
                    pipe.evalsha(put, 2, content, content, value, self._content_ttl_ms)
            case FlaggedImage():
                pipe.evalsha(put, 2, flag, tombstone, header + entry.wire, self._image_ttl_ms)
            case ImageRemoved():
                one_version = removes_one_version(record)
                # A version's id belongs to one object, by whatever reading its outcome came.
                for letters in (_FIRST, _OTHER) if one_version else (reading,):
                    keys = (*(f"{self._prefix}{letter}:{image}" for letter in letters), tombstone)
                    pipe.evalsha(remove, 3, *keys, header, self._tombstone_ttl_ms, "1" if one_version else "0")

    async def image(self, bucket: str, key: str) -> IndexedImage | None:
        """Return what is known of bucket/key; see `Index`."""
        keys = [f"{self._prefix}{letter}:{{{bucket}/{key}}}" for letter in (*_FIRST, *_OTHER)]
        stored, flag_value, other, other_flag = await self._read(*keys)
        first = None if stored is None else _split(stored)[0]
        if other is not None and other_counts(first, dataclasses.replace(_split(other)[0], other_reading=True)):
            stored, flag_value = other, other_flag
        if stored is None:
            return None
        standing, wire = _split(stored)
        if standing.removal:
            return IndexedImage(bucket, key, None, None, standing.event_time_ms)
        prediction = self._decode(wire, ImagePrediction)
        flag = None
        if flag_value is not None:
            flag_standing, flag_wire = _split(flag_value)
            if same_upload(flag_standing, standing):
                flag = self._decode(flag_wire, FlaggedImage)
        return IndexedImage(bucket, key, prediction, flag, None)

    async def content(self, sha256: str) -> ImagePrediction | None:
        """Return the latest outcome of these bytes; see `Index`."""
        (stored,) = await self._read(f"{self._prefix}c:{{{sha256}}}")
        return None if stored is None else self._decode(_split(stored)[1], ImagePrediction)

    async def _read(self, *keys: str) -> list[bytes | None]:
        try:
            values: list[bytes | None] = await self._redis.mget(keys)
        except (RedisError, OSError) as error:
            raise IndexUnavailable(self._unreachable(error)) from error
        return values

    def _unreachable(self, error: BaseException) -> str:
        # The address as the client took it from the URL: without the password that the URL may hold.
        asked = self._redis.connection_pool.connection_kwargs
        where = asked.get("path") or f"{asked.get('host')}:{asked.get('port')}"
        return unreachable("Redis", where, "SIGHTLINE_REDIS_URL", error)

    def _decode(self, wire: bytes, record: type[_R]) -> _R:
        try:
            return self._codec.decode_as(wire, record)
        except Poison as poison:
            raise IndexUnavailable(f"the index holds a value that is not ours ({poison}); rebuild it") from poison

    async def close(self) -> None:
        """Release connections."""
        await self._redis.aclose()


def _header(standing: Standing) -> bytes:
    fields = (
        "1" if standing.removal else "0",
        standing.dialect,
        standing.order_key,
        str(standing.event_time_ms),
        str(standing.decided_at_ms),
        standing.id,
        standing.version_id,
    )
    # An event may name anything a version; a separator inside a field must not break the line.
    return ("\t".join(field.replace("\t", " ").replace("\n", " ") for field in fields) + "\n").encode()


def _split(value: bytes) -> tuple[Standing, bytes]:
    # By which reading it came says the key that the value lies under.
    line, _, wire = value.partition(b"\n")
    removal, dialect, order_key, event_time, decided_at, identity, version = line.decode().split("\t")
    standing = Standing(removal == "1", dialect, order_key, int(event_time), int(decided_at), identity, version)
    return standing, wire
