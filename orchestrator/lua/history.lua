-- Counts a sweep, and notices a history that went back: an old append-only file, a
-- failover to a replica that was behind. Then work that was in flight is rung again.
--
-- KEYS  task.lua's (of no task)
-- ARGV  task.lua's, then 6 epoch and 7 count that the caller saw last ('' and 0 at
--       first), 8 a new epoch
-- Returns {'went_back' | 'goes_on', doorbells, epoch, count}. All processes share the
-- epoch; who notices first replaces it, and the others find theirs replaced.

local key = FLEET .. 'history'
local facts = redis.call('HMGET', key, 'epoch', 'count', 'replaced')
local epoch, count = facts[1], tonumber(facts[2] or nil) or 0
local seen_epoch, seen_count = ARGV[6], tonumber(ARGV[7])
local went_back = seen_epoch ~= '' and facts[3] ~= seen_epoch
  and (epoch ~= seen_epoch or count < seen_count)

if went_back then
  redis.call('HSET', key, 'replaced', seen_epoch, 'went_back_ms', AT,
    'sweeps_lost', text(math.max(0, seen_count - count)))
  for _, queue in ipairs(redis.call('SMEMBERS', FLEET .. 'queues')) do
    for _, member in ipairs(redis.call('ZRANGE', in_fleet('rung', queue), 0, -1)) do
      redis.call('ZADD', DUE, AT, member)
    end
    redis.call('DEL', in_fleet('rung', queue), in_fleet('aloud', queue))
  end
end
if went_back or not epoch then
  epoch = ARGV[8]
  redis.call('HSET', key, 'epoch', epoch)
end
count = redis.call('HINCRBY', key, 'count', 1)
return {went_back and 'went_back' or 'goes_on', {}, epoch, text(count)}
