-- Takes back what a call needed that is not to begin, be it granted or not; an admission
-- that comes later, on a slower connection, grants nothing. A permit returns; what its
-- call was counted for stays counted, and the task keeps its place, and what it is owed,
-- for a while. Stands after admission.lua.
--
-- KEYS  those of its needs
-- ARGV  1 and 2 its needs (admission.lua)   3 for how long it is remembered (ms)

local entry, hold = words(ARGV[1]), words(ARGV[2])
local has_gate = #entry > 0
redis.call('SET', WITHDRAWN .. (entry[1] or hold[1]), '', 'PX', ARGV[3])
if has_gate then
  at_gate(KEYS[1])
  redis.call('ZREM', WAITING, entry[1])
  redis.call('ZREM', SEEN, entry[1])
  if redis.call('ZREM', PERMITS, entry[1]) == 1 then
    tell_next()
  end
end
if #hold > 0 then
  local accounts = {unpack(KEYS, has_gate and 2 or 1)}
  unreserve(accounts, hold, today() - 1) -- it may have been granted before midnight
  unreserve(accounts, hold, today())
end
return 1
