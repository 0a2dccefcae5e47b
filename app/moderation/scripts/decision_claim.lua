-- Redis 6 cannot set a key only if it is absent and return its value by one command.
-- KEYS: claim. ARGV: head for a new one, time to live, now, age at which a claim without a record is taken over. A head
-- is "<since>,<last taken at>\t<request digest>\t". Returns the value of the claim, and whether the caller has it.
local held = redis.call('GET', KEYS[1])
if not held then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {ARGV[1], 'new'}
end
local comma, tab = string.find(held, ',', 1, true), string.find(held, '\t', 1, true)
local taken = tonumber(string.sub(held, comma + 1, tab - 1))
local unmade = #held == string.find(held, '\t', tab + 1, true)
if unmade and tonumber(ARGV[3]) - taken >= tonumber(ARGV[4]) then
  redis.call('SET', KEYS[1], string.sub(held, 1, comma) .. ARGV[3] .. string.sub(held, tab), 'PX', ARGV[2])
  return {held, 'taken'}
end
return {held, ''}
