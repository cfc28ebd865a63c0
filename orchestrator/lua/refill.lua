-- Rings for tasks in line where there is room again, and forgets messages of tasks that
-- no longer want one.
--
-- KEYS  task.lua's (of no task)
-- ARGV  task.lua's
-- Returns {'refilled', doorbells}.

local CHECKED = 20

local function forget_stale(queue)
  local rung = in_fleet('rung', queue)
  if room(queue) > 0 or NOW - flow(queue, 'at') < RESEND then
    return
  end
  for _, member in ipairs(redis.call('ZRANGE', rung, 0, CHECKED - 1)) do
    if redis.call('HGET', record_of(member), 'status') ~= 'pending' then
      redis.call('ZREM', rung, member)
    end
  end
end

local bells = {}
for _, queue in ipairs(redis.call('SMEMBERS', FLEET .. 'queues')) do
  forget_stale(queue)
  join(bells, refill(queue))
  if redis.call('EXISTS', in_fleet('ready', queue), in_fleet('suspects', queue),
    in_fleet('rung', queue)) == 0 then
    redis.call('SREM', FLEET .. 'queues', queue)
  end
end
return {'refilled', bells}
