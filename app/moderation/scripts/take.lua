-- ARGV: now, moderator, image, place, lease time, lease id.
reclaim(ARGV[1])
local lease = redis.call('HGET', leases, ARGV[3])
if lease and split(lease)[1] ~= ARGV[2] then return false end
local old = redis.call('HGET', places, ARGV[3])
if old and not lease then dequeue(ARGV[3], old) end
redis.call('HSET', places, ARGV[3], ARGV[4])
redis.call('ZREM', P .. 'skipped:' .. ARGV[2], ARGV[3])
local id = lease and split(lease)[2] or ARGV[6]
return {id, tostring(grant(ARGV[3], ARGV[2], id, ARGV[1], ARGV[5]))}
