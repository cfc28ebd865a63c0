-- Looks at a due task: ends it when a limit has passed, rings when it may run now. A
-- waiting task is due only for its deadline, and for the time that a decision may take.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 the note of a decision that nobody took
-- Returns {'rung' | 'rung_again' | 'ended' | 'nothing', doorbells}.

local status = is_record() and get('status')
if status ~= 'pending' and status ~= 'waiting' then
  redis.call('ZREM', DUE, MEMBER)
  return {'nothing', {}}
end
-- Another sweep may have settled a waiting task that is due for nothing more.
if (tonumber(redis.call('ZSCORE', DUE, MEMBER) or nil) or math.huge) > NOW then
  return {'nothing', {}}
end
local reason = get('schema') == SCHEMA and overdue(unpack(
  redis.call('HMGET', RECORD, 'attempt', 'expires_at_ms', 'deadline_at_ms')))
if reason then
  return {'ended', end_with_failure('failed', 'expired', reason)}
end
if status == 'waiting' then
  local lapsed, first = lapsed_calls(ARGV[6])
  local bells = decide(lapsed)
  if get('status') == 'waiting' then
    redis.call('ZREM', DUE, MEMBER)
    first = first or get_number('deadline_at_ms')
    if first then
      look_at(first)
    end
  end
  return {#lapsed > 0 and 'rung' or 'nothing', bells}
end
if get_number('due_ms') > NOW then
  look_at(get_number('due_ms'))
  return {'nothing', {}}
end
if is_held() or not is_next_turn() then
  look_at(NOW + MAX_RESEND)
  return {'nothing', {}}
end
local score = tonumber(redis.call('ZSCORE', in_fleet('rung', get('queue')), MEMBER) or nil)
if not score then
  return {'rung', offer(TASK_ID)}
end
local doubt = message_doubt(score)
if not doubt then
  look_at(NOW + RESEND / 2)
  return {'nothing', {}}
end
local rings = get_number('rings')
local bell = doubt == 'overtaken' and ring(MEMBER) or doorbell(TASK_ID)
redis.call('HSET', RECORD, 'rings', text(rings + 1))
if doubt == 'overtaken' then
  redis.call('HSET', RECORD, 'overtaken', '1') -- take_message knows what that means
else
  redis.call('HDEL', RECORD, 'overtaken')
end
look_at(NOW + RESEND) -- how long silence lasts until it is doubted, message_doubt knows
return {'rung_again', {bell}}
