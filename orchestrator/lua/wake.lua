-- Offers more of those that have waited for a task that has ended. Looks again: a new task of
-- its id may have yet to end, for which all wait that are left.
--
-- KEYS  task.lua's
-- ARGV  task.lua's
-- Returns {'woken' | 'nothing', doorbells}.

local status = is_record() and get('status')
if status and next(TRANSITIONS[status] or {}) then
  redis.call('ZREM', FOLLOWED, MEMBER)
  return {'nothing', {}}
end
local bells = wake_followers()
if redis.call('EXISTS', RECORD .. ':then') == 0 then
  redis.call('ZREM', FOLLOWED, MEMBER)
end
return {'woken', bells}
