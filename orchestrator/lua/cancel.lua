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
local bells = request_cancel(ARGV[6])
if status == 'cancelled' then
  bells = wake_next_turn()
end
return {'cancelled', redis.call('HGETALL', RECORD), bells}
