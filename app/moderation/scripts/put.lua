-- ARGV: image, place (empty: waits no more), the place that must be there (empty: any).
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
