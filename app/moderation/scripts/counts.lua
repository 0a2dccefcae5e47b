-- ARGV: now.
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
