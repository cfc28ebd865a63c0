-- Keeps a schedule, over an earlier one of its id. A tick of that one that has come and was
-- not submitted yet stays due, if the new one has the same ticks.
--
-- KEYS  1 the tenant's schedules (hash), 2 schedules of all tenants by tick (zset)
-- ARGV  1 id, 2 schedule (JSON), 3 member ('tenant id'), 4 next tick (ms)
-- Returns its next tick (ms).

-- pcall: what stands there may be damaged, or no schedule of ours.
local function same_ticks(one, other)
  local fine, same = pcall(function()
    one, other = cjson.decode(one), cjson.decode(other)
    return one.cron == other.cron and one.time_zone == other.time_zone
  end)
  return fine and same
end

local next_at = ARGV[4]
local earlier = redis.call('HGET', KEYS[1], ARGV[1])
if earlier and same_ticks(earlier, ARGV[2]) then
  local due = redis.call('ZSCORE', KEYS[2], ARGV[3])
  if due and tonumber(due) > 0 and tonumber(due) < tonumber(next_at) then
    next_at = text(tonumber(due))
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], next_at, ARGV[3])
return next_at
