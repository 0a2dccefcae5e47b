-- ARGV: now, moderator, lease time, how many, id of the new leases, actions.
-- An image whose age is zero still has a place: a second is added.
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
