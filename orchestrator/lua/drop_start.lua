-- Removes this attempt's start mark of a step that is known to have had no effect.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 lease, 7 step key
-- Returns {'dropped'} or {'lost'}.

if not holds_lease(ARGV[6]) then
  return {'lost'}
end
local stored = redis.call('HGET', JOURNAL, ARGV[7])
if stored and string.match(stored, '^%? %d+ (%d+) ') == fence_of(ARGV[6]) then
  redis.call('HDEL', JOURNAL, ARGV[7])
end
return {'dropped'}
