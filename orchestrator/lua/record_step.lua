-- Writes a finished step and its events over its start mark, if it has one; the first
-- writer of a step's key wins. Marks the completion that follows at once as begun.
--
-- KEYS  task.lua's, then those of the dues
-- ARGV  task.lua's, then 6 lease, 7 step key, 8 step (JSON), 9 its part of the
--       answer (of a summary: its message as JSON) or '', 10 key of the completion
--       that follows or '', 11 its start (JSON), 12.. dues of its call (dues.lua), then
--       how many counts and the field and amount of each, then type and data of events
-- Returns {'recorded', entry, doorbells, how many messages wait for the run}, with a
-- completion that follows also what start_step returns of it, or {'lost'}; an entry is
-- '<place> <ms> <step JSON>', without the step where this call has written it.

local COUNTS = pay(12, 13)
if not holds_lease(ARGV[6]) then
  return {'lost'}
end
local stored = redis.call('HGET', JOURNAL, ARGV[7])
if not is_finished(stored) then
  local place = redis.call('HINCRBY', RECORD, 'steps', 1)
  stored = text(place) .. ' ' .. text(NOW)
  redis.call('HSET', JOURNAL, ARGV[7], stored .. ' ' .. ARGV[8])
  if redis.call('HGET', RECORD .. ':saying', 'key') == ARGV[7] then
    redis.call('DEL', RECORD .. ':saying')
  end
  if ARGV[9] ~= '' and get('conversation') then
    if ARGV[7] == 'summary' then
      redis.call('HSET', RECORD, 'summary', ARGV[9])
    else
      redis.call('RPUSH', RECORD .. ':said', ARGV[9])
    end
  end
  local events = COUNTS + 1 + 2 * tonumber(ARGV[COUNTS])
  for i = COUNTS + 1, events - 1, 2 do
    count(ARGV[i], tonumber(ARGV[i + 1]))
  end
  append_events(events)
end
local answer = {'recorded', stored, leave_ship(true), redis.call('LLEN', RECORD .. ':inbox')}
if ARGV[10] ~= '' then
  answer[5] = begin_step(ARGV[10], '1', ARGV[11])
  answer[6] = redis.call('EXISTS', RECORD .. ':watched')
end
return answer
