-- Marks a step as begun, before it has any effect.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 lease, 7 step key, 8 '1' for a completion, 9 start (JSON)
-- Returns {'started', '1' when an earlier attempt had begun it, whether somebody follows
-- the run} or {'lost'}. A mark is '? <ms> <attempt> <start JSON>'; this attempt's own is
-- written once.

if not holds_lease(ARGV[6]) then
  return {'lost'}
end
return {'started', begin_step(ARGV[7], ARGV[8], ARGV[9]),
  redis.call('EXISTS', RECORD .. ':watched')}
