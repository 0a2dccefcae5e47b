-- KEYS: outcome, tombstone of its version, flag, history, pending. ARGV: as for put, then the length of a history.
-- Returns 2 if there is a flag too: the reader decides whether it is about this upload.
local new = standing(ARGV[1])
local pending = redis.call('GET', KEYS[5])
if pending and order(new, standing(pending)) >= 0 then redis.call('DEL', KEYS[5]) end
if new[7] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local old = redis.call('GET', KEYS[1])
if old and not replaces(new, standing(old)) then
  keep(KEYS[4], ARGV[1], ARGV[4], ARGV[2])
  return 0
end
if old and old ~= ARGV[1] and standing(old)[1] == '0' then keep(KEYS[4], old, ARGV[4], ARGV[2]) end
put(KEYS[1], ARGV[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], '')
if redis.call('EXISTS', KEYS[3]) == 1 then return 2 end
return 1
