-- KEYS: outcome, tombstone of the version, flag, history, pending. ARGV: header line, time to live, channel, length of a
-- history, '1' if only one version is erased. Returns 2 if there was a flag.
local new = standing(ARGV[1])
local old = redis.call('GET', KEYS[1])
local flag = redis.call('GET', KEYS[3])
local answer = 1
if flag then answer = 2 end
if ARGV[5] == '1' then
  put(KEYS[2], '', ARGV[2])
  if old then
    local fields = standing(old)
    if fields[1] == '0' and fields[7] == new[7] then redis.call('DEL', KEYS[1], KEYS[3]) end
  end
  local pending = redis.call('GET', KEYS[5])
  if pending and standing(pending)[7] == new[7] then redis.call('DEL', KEYS[5]) end
  for _, kept in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    if standing(kept)[7] == new[7] then redis.call('ZREM', KEYS[4], kept) end
  end
  redis.call('PUBLISH', ARGV[3], '')
  return answer
end
if flag and order(new, standing(flag)) >= 0 then redis.call('DEL', KEYS[3]) end
local pending = redis.call('GET', KEYS[5])
if pending and order(new, standing(pending)) >= 0 then redis.call('DEL', KEYS[5]) end
if old and not replaces(new, standing(old)) then return answer end
if old and standing(old)[1] == '0' then keep(KEYS[4], old, ARGV[4], ARGV[2]) end
put(KEYS[1], ARGV[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], '')
return answer
