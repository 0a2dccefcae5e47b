"""The scripts of the index: comparing and setting one fact, atomic in the server.

A value is a header line (app/systems/redis/index.py) and a record. `replaces` is that of app/domain/standing.py.
"""

from __future__ import annotations

from typing import Final

# Strings are compared by bytes: Lua's own `<` follows the server's locale.
_ORDER: Final = """
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
local function keep(key, value, most, ttl)
  if most == '0' then return end
  redis.call('ZADD', key, standing(value)[5], value)
  redis.call('ZREMRANGEBYRANK', key, 0, -1 - tonumber(most))
  if ttl ~= '0' then redis.call('PEXPIRE', key, ttl) end
end
"""

# KEYS: the fact's key, the tombstone of its version. ARGV: header line with payload, time to live, channel.
PUT: Final = (
    _ORDER
    + """
local new = standing(ARGV[1])
if new[7] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local old = redis.call('GET', KEYS[1])
if old and not replaces(new, standing(old)) then return 0 end
put(KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('PUBLISH', ARGV[3], '') end
return 1
"""
)
# KEYS: outcome, tombstone of its version, flag, history, pending. ARGV: as PUT, then how long a history may be.
# Returns 2 where a flag is there too: whether it speaks of this very upload is for the reader.
PUT_OUTCOME: Final = (
    _ORDER
    + """
local new = standing(ARGV[1])
local pending = redis.call('GET', KEYS[5])
if pending and order(new, standing(pending)) >= 0 then redis.call('DEL', KEYS[5]) end
if new[7] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local old = redis.call('GET', KEYS[1])
if old and not replaces(new, standing(old)) then
  keep(KEYS[4], ARGV[1], ARGV[4], ARGV[2])
  return 0
end
if old and old ~= ARGV[1] and standing(old)[1] == '0' then keep(KEYS[4], old, ARGV[4], ARGV[2]) end
put(KEYS[1], ARGV[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], '')
if redis.call('EXISTS', KEYS[3]) == 1 then return 2 end
return 1
"""
)
# KEYS: pending, the outcomes by both readings, the tombstone of its version. ARGV: header line, time to live, channel.
PUT_PENDING: Final = (
    _ORDER
    + """
local new = standing(ARGV[1])
if new[7] ~= '' and redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
for i = 2, 3 do
  local known = redis.call('GET', KEYS[i])
  if known and order(new, standing(known)) <= 0 then return 0 end
end
local old = redis.call('GET', KEYS[1])
if old and order(new, standing(old)) < 0 then return 0 end
put(KEYS[1], ARGV[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], '')
return 1
"""
)
# KEYS: outcome, tombstone of the version, flag, history, pending. ARGV: header line, time to live, channel, how long a
# history may be, '1' when one version alone is erased. Returns 2 where there was a flag.
REMOVE: Final = (
    _ORDER
    + """
local new = standing(ARGV[1])
local old = redis.call('GET', KEYS[1])
local flag = redis.call('GET', KEYS[3])
local answer = 1
if flag then answer = 2 end
if ARGV[5] == '1' then
  put(KEYS[2], '', ARGV[2])
  if old then
    local fields = standing(old)
    if fields[1] == '0' and fields[7] == new[7] then redis.call('DEL', KEYS[1], KEYS[3]) end
  end
  local pending = redis.call('GET', KEYS[5])
  if pending and standing(pending)[7] == new[7] then redis.call('DEL', KEYS[5]) end
  for _, kept in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    if standing(kept)[7] == new[7] then redis.call('ZREM', KEYS[4], kept) end
  end
  redis.call('PUBLISH', ARGV[3], '')
  return answer
end
if flag and order(new, standing(flag)) >= 0 then redis.call('DEL', KEYS[3]) end
local pending = redis.call('GET', KEYS[5])
if pending and order(new, standing(pending)) >= 0 then redis.call('DEL', KEYS[5]) end
if old and not replaces(new, standing(old)) then return answer end
if old and standing(old)[1] == '0' then keep(KEYS[4], old, ARGV[4], ARGV[2]) end
put(KEYS[1], ARGV[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], '')
return answer
"""
)
