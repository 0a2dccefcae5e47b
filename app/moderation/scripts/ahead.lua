-- ARGV: now, how many, actions. Reads no more than `how many` of each head.
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
