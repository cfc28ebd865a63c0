-- The slots of live workers; comes after basics.lua. It changes nothing by itself.
--
-- A worker's entry is '<slots> <queue> <queue>…'.

-- Counts a worker in or out (1, -1) where its slots are summed by queue.
local function count_slots(by_queue, entry, sign)
  local slots, queues = string.match(entry or '', '^(%d+)(.*)$')
  local change = sign * (tonumber(slots) or 0)
  if change == 0 then
    return -- taken away it would be -0, which Redis takes for no integer
  end
  for queue in string.gmatch(queues, '%S+') do
    if redis.call('HINCRBY', by_queue, queue, change) <= 0 then
      redis.call('HDEL', by_queue, queue)
    end
  end
end

-- Forgets a worker. The first write frees, so a full Redis refuses none of them.
local function forget_worker(workers, entries, by_queue, worker)
  local entry = redis.call('HGET', entries, worker)
  redis.call('ZREM', workers, worker)
  redis.call('HDEL', entries, worker)
  count_slots(by_queue, entry, -1)
end

-- Forgets those that have not been announced again in time.
local function forget_gone(workers, entries, by_queue)
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', workers, '-inf', AT)) do
    forget_worker(workers, entries, by_queue, gone)
  end
end
