-- What all scripts of the queue share. KEYS: the prefix of all keys (app/moderation/redis_queue.py).
local P = KEYS[1]
local places, heads, leases, expiry = P .. 'places', P .. 'heads', P .. 'leases', P .. 'expiry'
local function split(text)
  local found, from = {}, 1
  while true do
    local tab = string.find(text, '\t', from, true)
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
  redis.call('HSET', leases, image, moderator .. '\t' .. id)
  redis.call('ZADD', expiry, ends, image)
  redis.call('SADD', P .. 'of:' .. moderator, image)
  return ends
end
