-- KEYS: claim, counts of the day. ARGV: record, time to live, name of the count, name of the one taken off, time to live
-- of the counts, head for a claim that was lost.
local held = redis.call('GET', KEYS[1])
local head = ARGV[6]
if held then
  local first = string.find(held, '\t', 1, true)
  local stop = string.find(held, '\t', first + 1, true)
  if #held > stop then return 0 end
  head = held
end
redis.call('SET', KEYS[1], head .. ARGV[1], 'PX', ARGV[2])
if ARGV[3] ~= '' then redis.call('HINCRBY', KEYS[2], ARGV[3], 1) end
if ARGV[4] ~= '' then redis.call('HINCRBY', KEYS[2], ARGV[4], -1) end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
