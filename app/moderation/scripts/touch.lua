-- ARGV: now, moderator, lease time (empty: give back), lease ids.
reclaim(ARGV[1])
local asked = {}
for i = 4, #ARGV do asked[ARGV[i]] = true end
local answer = {}
for _, image in ipairs(redis.call('SMEMBERS', P .. 'of:' .. ARGV[2])) do
  local lease = split(redis.call('HGET', leases, image))[2]
  if asked[lease] then
    answer[#answer + 1] = lease
    if ARGV[3] == '' then
      drop_lease(image)
      enqueue(image)
    else
      grant(image, ARGV[2], lease, ARGV[1], ARGV[3])
    end
  end
end
return answer
