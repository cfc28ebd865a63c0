-- Offers more of those that have waited for a task that has ended.
--
-- KEYS  task.lua's
-- ARGV  task.lua's
-- Returns {'woken', doorbells}.

local bells = wake_followers()
if redis.call('EXISTS', RECORD .. ':then') == 0 then
  redis.call('ZREM', FOLLOWED, MEMBER)
end
return {'woken', bells}
