-- Keeps a decision on an awaited call; after the last one waiting -> pending.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 step key, 7 decision (JSON), 8 event data (JSON)
-- Returns {'resolved', record, doorbells}, {'not_awaited', record}, {'too_late', record}
-- or {'unknown'}. A decision stands in the journal as '! <ms> <decision JSON>' until it is acted
-- on, and the last one in the record until the run asks again: its answer may have been lost, and
-- the run is quick.

local status = get('status')
if not status then
  return {'unknown'}
end
if status ~= 'waiting' or not get('await:' .. ARGV[6]) then
  local stored = redis.call('HGET', JOURNAL, ARGV[6])
  local kept = stored and string.match(stored, '^! %d+ (.*)$')
  if kept ~= ARGV[7] and get('decided') ~= ARGV[6] .. ' ' .. redis.sha1hex(ARGV[7]) then
    return {'not_awaited', redis.call('HGETALL', RECORD)}
  end
  local bells = status == 'pending' and {doorbell(TASK_ID)} or {}
  return {'resolved', redis.call('HGETALL', RECORD), bells}
end

local lapses = get_number('lapse:' .. ARGV[6])
if lapses and lapses <= NOW then
  return {'too_late', redis.call('HGETALL', RECORD)}
end
local bells = decide({{key = ARGV[6], decision = ARGV[7], event = ARGV[8]}})
return {'resolved', redis.call('HGETALL', RECORD), bells}
