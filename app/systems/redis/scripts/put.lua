-- KEYS: the fact's key, the tombstone of its version. ARGV: header line with payload, time to live, channel.
local new = standing(ARGV[1])
if new[7] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local old = redis.call('GET', KEYS[1])
if old and not replaces(new, standing(old)) then return 0 end
put(KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('PUBLISH', ARGV[3], '') end
return 1
