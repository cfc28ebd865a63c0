-- Finds schedules whose tick has come; removes what is no name of ours.
--
-- KEYS  1 schedules of all tenants by their next tick (zset)
-- ARGV  1 how many at most, 2 how many to pass over
-- Returns {now (ms), whether that were all (1 or 0), member and tick (ms) of each in turn}.

local found = {}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', AT, 'WITHSCORES', 'LIMIT', ARGV[2], ARGV[1])
for i = 1, #due, 2 do
  if names_in(due[i]) then
    found[#found + 1], found[#found + 2] = due[i], due[i + 1]
  else
    redis.call('ZREM', KEYS[1], due[i])
  end
end
return {AT, #due < 2 * ARGV[1] and 1 or 0, found}
