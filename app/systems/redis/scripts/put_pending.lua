-- KEYS: pending, the outcomes by both readings, the tombstone of its version. ARGV: header line, time to live, channel.
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
