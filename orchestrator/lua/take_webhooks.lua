-- Takes webhooks that are due, for a while: who takes them delivers or postpones them,
-- else they are due again.
--
-- KEYS  1 webhooks of all tenants by when they are due (zset)
-- ARGV  1 how many at most, 2 for how long (ms)
-- Returns their members ('tenant id').

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local function text(number)
  return string.format('%.0f', number)
end
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, ARGV[1])
for _, member in ipairs(found) do
  redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[2])), member)
end
return found
