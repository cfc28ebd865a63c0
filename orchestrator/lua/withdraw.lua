-- Says that a worker stops; its agents stay known.
--
-- KEYS  1 the worker's announcement, 2 announced workers (zset),
--       3 each worker's slots and queues (hash), 4 live slots by queue (hash)
-- ARGV  1 worker id

local entry = redis.call('HGET', KEYS[3], ARGV[1])
local slots, queues = string.match(entry or '', '^(%d+)(.*)$')
if (tonumber(slots) or 0) > 0 then -- to Redis, -0 is no integer
  for queue in string.gmatch(queues, '%S+') do
    if redis.call('HINCRBY', KEYS[4], queue, -tonumber(slots)) <= 0 then
      redis.call('HDEL', KEYS[4], queue)
    end
  end
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return {}
