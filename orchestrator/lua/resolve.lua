-- Keeps a decision on an awaited call; after the last one waiting -> pending.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 field of the awaited call, 7 step key, 8 decision (JSON),
--       9 event data (JSON)
-- Returns {'resolved', record, doorbells}, {'not_awaited', record} or {'unknown'}. A
-- decision stands in the journal as '! <ms> <decision JSON>' until it is acted on.

local status = get('status')
if not status then
  return {'unknown'}
end
if status ~= 'waiting' or not get(ARGV[6]) then
  local stored = redis.call('HGET', JOURNAL, ARGV[7])
  local kept = stored and string.match(stored, '^! %d+ (.*)$')
  if kept ~= ARGV[8] then
    return {'not_awaited', redis.call('HGETALL', RECORD)}
  end
  local bells = status == 'pending' and {doorbell(TASK_ID)} or {}
  return {'resolved', redis.call('HGETALL', RECORD), bells}
end

local left = get_number('awaited') - 1
if left == 0 then
  move('pending')
  leave_due_and_leases()
end
redis.call('HSET', RECORD, 'awaited', text(left), 'resumes', '1')
redis.call('HDEL', RECORD, ARGV[6])
redis.call('HSET', JOURNAL, ARGV[7], '! ' .. text(NOW) .. ' ' .. ARGV[8])
append_event('tool_call.resolved', ARGV[9])
local bells = left == 0 and make_due(0) or {}
return {'resolved', redis.call('HGETALL', RECORD), bells}
