-- Says that a worker lives and what it serves; its agents are known from now on.
--
-- KEYS  1 the worker's announcement, 2 workers by their end (zset), 3 known agents (hash),
--       4 each worker's slots and queues (hash), 5 live slots by queue (hash)
-- ARGV  1 worker id, 2 worker (JSON), 3 lifetime (ms), 4 slots and queues
--       ('<slots> <queue> <queue>…'), 5.. name and config of agents

local function count_slots(worker, sign)
  local slots, queues = string.match(redis.call('HGET', KEYS[4], worker) or '', '^(%d+)(.*)$')
  local change = sign * (tonumber(slots) or 0)
  if change == 0 then
    return -- taken away it would be -0, which Redis takes for no integer
  end
  for queue in string.gmatch(queues, '%S+') do
    if redis.call('HINCRBY', KEYS[5], queue, change) <= 0 then
      redis.call('HDEL', KEYS[5], queue)
    end
  end
end
redis.call('SET', KEYS[1], AT .. ' ' .. ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], text(NOW + tonumber(ARGV[3])), ARGV[1])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', AT)) do
  count_slots(gone, -1)
  redis.call('HDEL', KEYS[4], gone)
  redis.call('ZREM', KEYS[2], gone)
end
if redis.call('HGET', KEYS[4], ARGV[1]) ~= ARGV[4] then
  count_slots(ARGV[1], -1)
  redis.call('HSET', KEYS[4], ARGV[1], ARGV[4])
  count_slots(ARGV[1], 1)
end
for i = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
return {}
