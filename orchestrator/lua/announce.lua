-- Says that a worker lives and what it serves; its agents are known from now on.
--
-- KEYS  1 the worker's announcement, 2 workers by their end (zset), 3 known agents (hash)
-- ARGV  1 worker id, 2 worker (JSON), 3 lifetime (ms), 4.. name and config of agents

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local function text(number)
  return string.format('%.0f', number)
end
redis.call('SET', KEYS[1], text(now) .. ' ' .. ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], text(now + tonumber(ARGV[3])), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', text(now))
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
return {}
