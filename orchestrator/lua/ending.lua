-- How a task leaves a status; comes after task.lua and dispatch.lua, whose KEYS and ARGV
-- it shares. It changes nothing by itself.

local function settle_cache(status)
  local key = get('cache_key')
  if not key or redis.call('GET', key) ~= TASK_ID then
    return
  end
  if status == 'completed' and get('partial') ~= '1' then
    redis.call('PEXPIRE', key, text(KEEP))
  else
    redis.call('DEL', key)
  end
end

local function leave_due_and_leases()
  redis.call('ZREM', DUE, MEMBER)
  redis.call('ZREM', LEASES, MEMBER)
  redis.call('HDEL', RECORD, 'due_ms', 'pending_reason', 'lease_until_ms')
  leave_line()
end

-- Ends the task; returns the doorbells of the next turn and of the next suspect.
local function end_task(status, data)
  local was_next, bells = is_next_turn(), {}
  if get('status') == 'running' then
    bells = leave_ship(true)
  end
  move(status)
  leave_due_and_leases()
  redis.call('HSET', RECORD, 'finished_ms', text(NOW))
  append_event('task.' .. status, data)
  settle_cache(status)
  redis.call('ZADD', KEYS[9], text(NOW + KEEP), MEMBER)
  for i = 1, 3 do
    redis.call('PEXPIRE', KEYS[i], text(KEEP + BACKSTOP))
  end
  if get('webhook') then
    redis.call('ZADD', FLEET .. 'webhooks', text(NOW), MEMBER)
  end
  local conversation = get('conversation')
  if conversation then
    redis.call('ZREM', TURNS .. conversation, TASK_ID)
  end
  if conversation and was_next then
    join(bells, wake_next_turn())
  end
  return join(bells, wake_followers())
end

-- Ends the task for a reason of the store's own.
local function end_with_failure(status, code, message)
  redis.call('HSET', RECORD, 'failure',
    cjson.encode({code = code, message = message, attempt = get_number('attempt')}))
  local data = cjson.encode({status = status, code = code, message = message})
  return end_task(status, data)
end

local function count_run(status, code)
  local health = KEYS[10] .. get('agent')
  if status == 'completed' then
    redis.call('HINCRBY', health, 'successes', 1)
    redis.call('HSET', health, 'last_success_ms', text(NOW))
  elseif status ~= 'cancelled' then
    redis.call('HINCRBY', health, 'failures', 1)
    redis.call('HSET', health, 'last_failure_ms', text(NOW), 'last_failure_code', code)
  end
end

local function cancelled_data()
  return '{"status":"cancelled"}'
end
