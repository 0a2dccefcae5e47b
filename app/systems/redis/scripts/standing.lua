-- Order of facts: `replaces` is that of app/domain/standing.py. A value is a header line
-- (app/systems/redis/index.py) and a record.
-- Strings are compared by bytes: Lua's own `<` follows the server's locale.
local function compare(a, b)
  local n = math.min(#a, #b)
  for i = 1, n do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then if x > y then return 1 else return -1 end end
  end
  if #a == #b then return 0 elseif #a > #b then return 1 else return -1 end
end
local function standing(value)
  local fields, from = {}, 1
  local stop = string.find(value, '\n', 1, true)
  local line = string.sub(value, 1, stop)
  for i = 1, 7 do
    local tab = string.find(line, '[\t\n]', from)
    fields[i] = string.sub(line, from, tab - 1)
    from = tab + 1
  end
  return fields
end
local function order(new, old)
  if new[2] == old[2] and new[3] ~= '' and old[3] ~= '' then return compare(new[3], old[3]) end
  local a, b = tonumber(new[4]), tonumber(old[4])
  if a == b then return 0 elseif a > b then return 1 else return -1 end
end
local function replaces(new, old)
  local by_order = order(new, old)
  if by_order ~= 0 then return by_order > 0 end
  if new[1] ~= old[1] then return new[1] == '1' end
  local a, b = tonumber(new[5]), tonumber(old[5])
  if a ~= b then return a > b end
  return compare(new[6], old[6]) >= 0
end
local function put(key, value, ttl)
  if ttl == '0' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', ttl) end
end
local function keep(key, value, most, ttl)
  if most == '0' then return end
  redis.call('ZADD', key, standing(value)[5], value)
  redis.call('ZREMRANGEBYRANK', key, 0, -1 - tonumber(most))
  if ttl ~= '0' then redis.call('PEXPIRE', key, ttl) end
end
