-- Marks a step as begun, before it has any effect.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 fence, 7 step key, 8 '1' for a completion, 9 start (JSON)
-- Returns {'started', '1' when an earlier attempt had begun it, whether somebody follows
-- the run} or {'lost'}. A mark is '? <ms> <attempt> <start JSON>'; this attempt's own is
-- written once.

if not holds_lease(ARGV[6]) then
  return {'lost'}
end
local watched = redis.call('EXISTS', RECORD .. ':watched')
local stored = redis.call('HGET', JOURNAL, ARGV[7])
local begun_by = stored and string.match(stored, '^%? %d+ (%d+) ')
if is_finished(stored) or begun_by == ARGV[6] then
  return {'started', '0', watched}
end
redis.call('HSET', JOURNAL, ARGV[7],
  '? ' .. text(NOW) .. ' ' .. ARGV[6] .. ' ' .. ARGV[9])
if begun_by and ARGV[8] == '1' then
  redis.call('HINCRBY', RECORD, 'maybe_paid', 1)
end
return {'started', begun_by and '1' or '0', watched}
