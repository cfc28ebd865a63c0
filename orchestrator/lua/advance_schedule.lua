-- Moves a schedule from the tick that was handled to its next one; changes nothing when
-- another process, or a change of the schedule, was faster.
--
-- KEYS  1 schedules of all tenants by their next tick (zset)
-- ARGV  1 member ('tenant id'), 2 tick that was handled (ms), 3 next tick (ms)
-- Returns 1 when it was moved.

local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or nil)
-- Of what somebody else has written, the whole number was read as the tick.
if not score or (math.modf(score)) ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
