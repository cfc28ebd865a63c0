-- Finds schedules whose tick has come; changes nothing.
--
-- KEYS  1 schedules of all tenants by their next tick (zset)
-- ARGV  1 how many at most
-- Returns {now (ms), member and tick (ms) of each in turn}.

local clock = redis.call('TIME')
local now = string.format('%.0f',
  tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000))
return {now, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES',
  'LIMIT', 0, ARGV[1])}
