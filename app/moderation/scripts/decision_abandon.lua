-- KEYS: claim. Deletes it if it has no record.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, -1) == '\t' then redis.call('DEL', KEYS[1]) end
return 1
