-- Keeps a schedule, over an earlier one of its id. A tick of that one that has come and was
-- not submitted yet stays due, if the new one has the same ticks.
--
-- KEYS  1 the tenant's schedules (hash), 2 schedules of all tenants by tick (zset)
-- ARGV  1 id, 2 schedule (JSON), 3 member ('tenant id'), 4 next tick (ms), 5 how the text of
--       one with the same ticks begins
-- Returns its next tick (ms).

local next_at = ARGV[4]
local earlier = redis.call('HGET', KEYS[1], ARGV[1])
if earlier and string.sub(earlier, 1, #ARGV[5]) == ARGV[5] then
  local due = redis.call('ZSCORE', KEYS[2], ARGV[3])
  if due and tonumber(due) > 0 and tonumber(due) < tonumber(next_at) then
    next_at = text(tonumber(due))
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], next_at, ARGV[3])
return next_at
