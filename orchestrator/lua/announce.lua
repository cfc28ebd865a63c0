-- Says that a worker lives and what it serves; its agents are known from now on. Stands
-- after slots.lua.
--
-- KEYS  1 the worker's announcement, 2 workers by their end (zset), 3 known agents (hash),
--       4 each worker's slots and queues (hash), 5 live slots by queue (hash), 6 names of
--       the agents whose tasks reach the worker
-- ARGV  1 worker id, 2 worker (JSON), 3 lifetime (ms), 4 slots and queues
--       ('<slots> <queue> <queue>…'), 5 names of agents, 6.. name and config of agents

redis.call('SET', KEYS[1], AT .. ' ' .. ARGV[2], 'PX', ARGV[3])
redis.call('SET', KEYS[6], ARGV[5], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], text(NOW + tonumber(ARGV[3])), ARGV[1])
forget_gone(KEYS[2], KEYS[4], KEYS[5])
local entry = redis.call('HGET', KEYS[4], ARGV[1])
if entry ~= ARGV[4] then
  count_slots(KEYS[5], entry, -1)
  redis.call('HSET', KEYS[4], ARGV[1], ARGV[4])
  count_slots(KEYS[5], ARGV[4], 1)
end
for i = 6, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
return {}
