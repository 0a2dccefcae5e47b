"""The moderators' queue in Redis: one sorted set by age for each action and weight, so that its head is its best.

An image's place is weight × age. The places of two images of different weight change with time, those of one weight
never: so of each weight the oldest is looked at, some hundreds of heads at most, and the best of them is next. That is
exact, and costs the same with ten images waiting as with a million.

    <prefix>{queue}:places                 hash: image → action, weight, since (ms), flag id
    <prefix>{queue}:at:<action>:<weight>   sorted set by since: what nobody has leased
    <prefix>{queue}:heads                  set: the <action>:<weight> that are not empty
    <prefix>{queue}:leases                 hash: image → moderator, lease id; :expiry, sorted set by when they end
    <prefix>{queue}:of:<moderator>         set of images that he has leased
    <prefix>{queue}:skipped:<moderator>    sorted set: what he does not want to see again, by when that ends

Keys of all of it share one hash tag, so each script is atomic on a cluster, too.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from typing import Any, Final

from app.domain.moderation import Waiting
from app.ports.clock import Clock
from app.ports.index import Image
from app.ports.moderation import Lease, QueueCounts
from app.settings import ModerationSettings, RedisSettings
from app.systems.redis.client import connect, redis_errors

_MS: Final = 1000
_MS_PER_HOUR: Final = 3_600_000

_COMMON: Final = """
local P = KEYS[1]
local places, heads, leases, expiry = P .. 'places', P .. 'heads', P .. 'leases', P .. 'expiry'
local function split(text)
  local found, from = {}, 1
  while true do
    local tab = string.find(text, '\\t', from, true)
    if not tab then found[#found + 1] = string.sub(text, from) return found end
    found[#found + 1] = string.sub(text, from, tab - 1)
    from = tab + 1
  end
end
local function enqueue(image)
  local place = redis.call('HGET', places, image)
  if not place then return end
  local fields = split(place)
  local head = fields[1] .. ':' .. fields[2]
  redis.call('ZADD', P .. 'at:' .. head, fields[3], image)
  redis.call('SADD', heads, head)
end
local function dequeue(image, place)
  local fields = split(place)
  local head = fields[1] .. ':' .. fields[2]
  redis.call('ZREM', P .. 'at:' .. head, image)
  if redis.call('EXISTS', P .. 'at:' .. head) == 0 then redis.call('SREM', heads, head) end
end
local function drop_lease(image)
  local lease = redis.call('HGET', leases, image)
  if not lease then return false end
  redis.call('HDEL', leases, image)
  redis.call('ZREM', expiry, image)
  redis.call('SREM', P .. 'of:' .. split(lease)[1], image)
  return true
end
local function reclaim(now)
  for _, image in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', now)) do
    drop_lease(image)
    enqueue(image)
  end
end
local function grant(image, moderator, id, now, ms)
  local ends = tonumber(now) + tonumber(ms)
  redis.call('HSET', leases, image, moderator .. '\\t' .. id)
  redis.call('ZADD', expiry, ends, image)
  redis.call('SADD', P .. 'of:' .. moderator, image)
  return ends
end
"""
# ARGV: image, place (empty: waits no more), the place that must be there (empty: whatever is).
_PUT: Final = (
    _COMMON
    + """
local old = redis.call('HGET', places, ARGV[1])
if old == ARGV[2] or (ARGV[3] ~= '' and old ~= ARGV[3]) then return 0 end
local leased = redis.call('HEXISTS', leases, ARGV[1]) == 1
if old and not leased then dequeue(ARGV[1], old) end
if ARGV[2] == '' then
  redis.call('HDEL', places, ARGV[1])
  drop_lease(ARGV[1])
else
  redis.call('HSET', places, ARGV[1], ARGV[2])
  if not leased then enqueue(ARGV[1]) end
end
return 1
"""
)
# ARGV: now, moderator, lease time, how many, id of the new leases, actions.
# An image whose age is zero still has a place: a second is added.
_LEASE: Final = (
    _COMMON
    + """
local now, moderator, ms, count, id = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local wanted = {}
for i = 6, #ARGV do wanted[ARGV[i]] = true end
reclaim(now)
local skipped = P .. 'skipped:' .. moderator
redis.call('ZREMRANGEBYSCORE', skipped, '-inf', now)
local answer = {}
for _, image in ipairs(redis.call('SMEMBERS', P .. 'of:' .. moderator)) do
  local place = redis.call('HGET', places, image)
  if place and #answer < count and wanted[split(place)[1]] then
    local lease = split(redis.call('HGET', leases, image))[2]
    answer[#answer + 1] = {image, place, lease, tostring(grant(image, moderator, lease, now, ms))}
  end
end
local best_of = {}
local function best(head)
  local at, from = P .. 'at:' .. head, 0
  while true do
    local found = redis.call('ZRANGE', at, from, from + 49, 'WITHSCORES')
    if #found == 0 then return nil end
    for i = 1, #found, 2 do
      if not redis.call('ZSCORE', skipped, found[i]) then return {found[i], tonumber(found[i + 1])} end
    end
    from = from + 50
  end
end
local list = redis.call('SMEMBERS', heads)
while #answer < count do
  local chosen, priority = nil, -1
  for _, head in ipairs(list) do
    local colon = string.find(head, ':', 1, true)
    if wanted[string.sub(head, 1, colon - 1)] then
      if best_of[head] == nil then best_of[head] = best(head) or false end
      if best_of[head] then
        local mine = tonumber(string.sub(head, colon + 1)) * (tonumber(now) - best_of[head][2] + 1000)
        if mine > priority then chosen, priority = head, mine end
      end
    end
  end
  if not chosen then break end
  local image = best_of[chosen][1]
  local place = redis.call('HGET', places, image)
  redis.call('ZREM', P .. 'at:' .. chosen, image)
  if redis.call('EXISTS', P .. 'at:' .. chosen) == 0 then redis.call('SREM', heads, chosen) end
  best_of[chosen] = nil
  if place then
    local lease = id .. '-' .. #answer
    answer[#answer + 1] = {image, place, lease, tostring(grant(image, moderator, lease, now, ms))}
  end
end
return answer
"""
)
# ARGV: now, moderator, lease time ('': give back), lease ids.
_TOUCH: Final = (
    _COMMON
    + """
reclaim(ARGV[1])
local asked = {}
for i = 4, #ARGV do asked[ARGV[i]] = true end
local answer = {}
for _, image in ipairs(redis.call('SMEMBERS', P .. 'of:' .. ARGV[2])) do
  local lease = split(redis.call('HGET', leases, image))[2]
  if asked[lease] then
    answer[#answer + 1] = lease
    if ARGV[3] == '' then
      drop_lease(image)
      enqueue(image)
    else
      grant(image, ARGV[2], lease, ARGV[1], ARGV[3])
    end
  end
end
return answer
"""
)
# ARGV: now, moderator, image, how long it is not shown to him.
_SKIP: Final = (
    _COMMON
    + """
redis.call('ZADD', P .. 'skipped:' .. ARGV[2], tonumber(ARGV[1]) + tonumber(ARGV[4]), ARGV[3])
redis.call('PEXPIRE', P .. 'skipped:' .. ARGV[2], ARGV[4])
local lease = redis.call('HGET', leases, ARGV[3])
if lease and split(lease)[1] == ARGV[2] then
  drop_lease(ARGV[3])
  enqueue(ARGV[3])
end
return 1
"""
)
# ARGV: now, moderator, image, place, lease time, lease id.
_TAKE: Final = (
    _COMMON
    + """
reclaim(ARGV[1])
local lease = redis.call('HGET', leases, ARGV[3])
if lease and split(lease)[1] ~= ARGV[2] then return false end
local old = redis.call('HGET', places, ARGV[3])
if old and not lease then dequeue(ARGV[3], old) end
redis.call('HSET', places, ARGV[3], ARGV[4])
redis.call('ZREM', P .. 'skipped:' .. ARGV[2], ARGV[3])
local id = lease and split(lease)[2] or ARGV[6]
return {id, tostring(grant(ARGV[3], ARGV[2], id, ARGV[1], ARGV[5]))}
"""
)
# ARGV: now, how many, actions. Looks at no more than `how many` of each head.
_AHEAD: Final = (
    _COMMON
    + """
local now, count = tonumber(ARGV[1]), tonumber(ARGV[2])
reclaim(now)
local wanted = {}
for i = 3, #ARGV do wanted[ARGV[i]] = true end
local found = {}
local function add(image, holder)
  local place = redis.call('HGET', places, image)
  if not place then return end
  local fields = split(place)
  if not wanted[fields[1]] then return end
  found[#found + 1] = {tonumber(fields[2]) * (now - tonumber(fields[3]) + 1000), image, place, holder}
end
for _, head in ipairs(redis.call('SMEMBERS', heads)) do
  for _, image in ipairs(redis.call('ZRANGE', P .. 'at:' .. head, 0, count - 1)) do add(image, '') end
end
for _, image in ipairs(redis.call('ZRANGE', expiry, 0, -1)) do
  add(image, split(redis.call('HGET', leases, image))[1])
end
table.sort(found, function(a, b) if a[1] ~= b[1] then return a[1] > b[1] end return a[2] < b[2] end)
local answer = {}
for i = 1, math.min(count, #found) do answer[i] = {found[i][2], found[i][3], found[i][4]} end
return answer
"""
)
_COUNTS: Final = (
    _COMMON
    + """
reclaim(ARGV[1])
local by_action, oldest = {}, nil
local function count(action, number, since)
  by_action[action] = (by_action[action] or 0) + number
  if since and (not oldest or since < oldest) then oldest = since end
end
for _, head in ipairs(redis.call('SMEMBERS', heads)) do
  local at = P .. 'at:' .. head
  local first = redis.call('ZRANGE', at, 0, 0, 'WITHSCORES')
  count(string.sub(head, 1, string.find(head, ':', 1, true) - 1), redis.call('ZCARD', at), tonumber(first[2]))
end
local leased = redis.call('HKEYS', leases)
for _, image in ipairs(leased) do
  local place = redis.call('HGET', places, image)
  if place then
    local fields = split(place)
    count(fields[1], 1, tonumber(fields[3]))
  end
end
local answer = {tostring(#leased), oldest and tostring(oldest) or ''}
for action, number in pairs(by_action) do
  answer[#answer + 1] = action
  answer[#answer + 1] = tostring(number)
end
return answer
"""
)


class RedisQueue:
    """The `ModerationQueue` on a Redis server."""

    def __init__(self, redis: RedisSettings, moderation: ModerationSettings, clock: Clock) -> None:
        self._redis: Any = connect(redis)
        self._base = redis.prefix + "{queue}:"
        self._clock = clock
        self._lease_ms = round(moderation.lease_seconds * _MS)
        self._skip_ms = max(1, round(moderation.skip_hours * _MS_PER_HOUR))
        self._scripts = {
            text: self._redis.register_script(text) for text in (_PUT, _LEASE, _TOUCH, _SKIP, _TAKE, _AHEAD, _COUNTS)
        }

    async def _run(self, text: str, *arguments: object) -> Any:
        with redis_errors(self._redis):
            return await self._scripts[text](keys=[self._base], args=arguments)

    async def put(self, states: Sequence[tuple[Image, Waiting | None]]) -> None:
        """See `ModerationQueue`."""
        for image, waiting in states:
            await self._run(_PUT, _member(image), "" if waiting is None else _place(waiting), "")

    async def withdraw(self, waiting: Waiting) -> None:
        """See `ModerationQueue`."""
        await self._run(_PUT, _member((waiting.bucket, waiting.key)), "", _place(waiting))

    async def lease(self, moderator: str, count: int, actions: Collection[str]) -> Sequence[Lease]:
        """See `ModerationQueue`."""
        new = secrets.token_hex(8)
        rows = await self._run(_LEASE, self._clock.now_ms(), moderator, self._lease_ms, count, new, *actions)
        return [
            Lease(lease.decode(), _waiting(image, place), moderator, int(float(ends)))
            for image, place, lease, ends in rows
        ]

    async def renew(self, moderator: str, lease_ids: Collection[str]) -> Sequence[str]:
        """See `ModerationQueue`."""
        kept = await self._run(_TOUCH, self._clock.now_ms(), moderator, self._lease_ms, *lease_ids)
        return [lease.decode() for lease in kept]

    async def release(self, moderator: str, lease_ids: Collection[str]) -> None:
        """See `ModerationQueue`."""
        await self._run(_TOUCH, self._clock.now_ms(), moderator, "", *lease_ids)

    async def skip(self, moderator: str, image: Image) -> None:
        """See `ModerationQueue`."""
        await self._run(_SKIP, self._clock.now_ms(), moderator, _member(image), self._skip_ms)

    async def take(self, moderator: str, waiting: Waiting) -> Lease | None:
        """See `ModerationQueue`."""
        member = _member((waiting.bucket, waiting.key))
        new = secrets.token_hex(8) + "-0"
        found = await self._run(_TAKE, self._clock.now_ms(), moderator, member, _place(waiting), self._lease_ms, new)
        return None if found is None else Lease(found[0].decode(), waiting, moderator, int(float(found[1])))

    async def ahead(self, limit: int, actions: Collection[str]) -> Sequence[tuple[Waiting, str]]:
        """See `ModerationQueue`."""
        rows = await self._run(_AHEAD, self._clock.now_ms(), limit, *actions)
        return [(_waiting(image, place), holder.decode()) for image, place, holder in rows]

    async def counts(self) -> QueueCounts:
        """See `ModerationQueue`."""
        leased, oldest, *pairs = await self._run(_COUNTS, self._clock.now_ms())
        by_action = {pairs[at].decode(): int(pairs[at + 1]) for at in range(0, len(pairs), 2)}
        return QueueCounts(by_action, int(leased), int(float(oldest)) if oldest else None)

    async def close(self) -> None:
        """Release connections."""
        await self._redis.aclose()


def _member(image: Image) -> str:
    # A bucket's name holds no slash, so the first one parts it from the key.
    return f"{image[0]}/{image[1]}"


def _place(waiting: Waiting) -> str:
    return f"{waiting.action}\t{waiting.weight}\t{waiting.since_ms}\t{waiting.flag_id}"


def _waiting(image: bytes, place: bytes) -> Waiting:
    bucket, _, key = image.decode().partition("/")
    action, weight, since_ms, flag_id = place.decode().split("\t", 3)
    return Waiting(bucket, key, flag_id, action, int(weight), int(since_ms))
