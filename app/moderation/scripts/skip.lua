-- ARGV: now, moderator, image, how long it is not shown to them.
redis.call('ZADD', P .. 'skipped:' .. ARGV[2], tonumber(ARGV[1]) + tonumber(ARGV[4]), ARGV[3])
redis.call('PEXPIRE', P .. 'skipped:' .. ARGV[2], ARGV[4])
local lease = redis.call('HGET', leases, ARGV[3])
if lease and split(lease)[1] == ARGV[2] then
  drop_lease(ARGV[3])
  enqueue(ARGV[3])
end
return 1
