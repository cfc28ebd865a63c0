-- Asks for the end of a task: pending and waiting -> cancelled at once; running keeps
-- its status, shows the request and tells its worker; ended tasks do not change.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 how long a pushed cancel is kept (ms)
-- Returns {'cancelled', record, doorbells} or {'unknown'}.

local status = get('status')
if not status then
  return {'unknown'}
end
local bells = {}
if next(TRANSITIONS[status]) and not get('cancel_requested_ms') then
  if status == 'running' then
    local control = KEYS[11] .. get('worker')
    redis.call('HSET', RECORD, 'cancel_requested_ms', text(NOW))
    redis.call('RPUSH', control, MEMBER)
    redis.call('PEXPIRE', control, ARGV[6])
    append_event('task.cancel_requested', '{}')
  else
    redis.call('HSET', RECORD, 'cancel_requested_ms', text(NOW))
    bells = end_task('cancelled', cancelled_data())
  end
elseif status == 'cancelled' then
  bells = wake_next_turn()
end
return {'cancelled', redis.call('HGETALL', RECORD), bells}
