-- Rings for tasks in line where there is room again, and forgets messages of tasks that
-- no longer want one.
--
-- KEYS  task.lua's (of no task)
-- ARGV  task.lua's
-- Returns {'refilled', doorbells, a queue that could not be looked at and why, or ''}.

local CHECKED = 20

-- Looks at some outstanding messages after those of the last call. One of a task that has
-- ended, or is no more, would count for ever where it was lost: it is not under way any
-- more once it was overtaken or all is quiet.
local function forget_stale(queue)
  local rung, first = in_fleet('rung', queue), flow(queue, 'checked')
  local quiet = NOW - flow(queue, 'at') >= RESEND
  local found = redis.call('ZRANGE', rung, first, first + CHECKED - 1, 'WITHSCORES')
  local kept = 0
  for i = 1, #found, 2 do
    local score = tonumber(found[i + 1])
    if (quiet or overtaken(queue, score))
      and redis.pcall('HGET', record_of(found[i]), 'status') ~= 'pending' then
      redis.call('ZREM', rung, found[i])
    else
      kept = kept + 1
    end
  end
  set_flow(queue, 'checked', #found < 2 * CHECKED and 0 or first + kept)
end

-- Looks at one queue; joins the doorbells of those that may run.
local function sweep_queue(queue, bells)
  forget_stale(queue)
  join(bells, refill(queue))
  if redis.call('EXISTS', in_fleet('ready', queue), in_fleet('suspects', queue),
    in_fleet('rung', queue)) == 0 then
    redis.call('SREM', FLEET .. 'queues', queue)
  end
end

-- One whose keys hold something else keeps no other queue waiting.
local bells, problem = {}, ''
for _, queue in ipairs(redis.call('SMEMBERS', FLEET .. 'queues')) do
  local is_swept, why = pcall(sweep_queue, queue, bells)
  if not is_swept then
    problem = queue .. ': ' .. (type(why) == 'table' and why.err or tostring(why))
  end
end
return {'refilled', bells, problem}
