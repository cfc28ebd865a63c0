-- How a task leaves a status; comes after task.lua and dispatch.lua, whose KEYS and ARGV
-- it shares. It changes nothing by itself.

local function settle_cache(key, status)
  if redis.call('GET', key) ~= TASK_ID then
    return
  end
  if status == 'completed' and get('partial') ~= '1' then
    redis.call('PEXPIRE', key, text(KEEP))
  else
    redis.call('DEL', key)
  end
end

-- A key leads to its task as long as that is open, and for its time after the end.
local function settle_idempotency(key, lives)
  if string.match(redis.call('GET', key) or '', '^(%S+) ') == TASK_ID then
    redis.call('PEXPIRE', key, lives)
  end
end

-- So do those of the tasks whose messages the run has taken, and their ids.
local function settle_taken_in()
  for line in string.gmatch(get('taken_in') or '', '[^\n]+') do
    local id, lives, key = unpack(words(line))
    redis.call('PEXPIRE', RECORDS .. id .. ':joined', text(KEEP))
    if key then settle_idempotency(key, lives) end
  end
end

-- Leaves what is kept of a turn without an answer, and of those that it superseded.
local function close_turns(conversation, status)
  local limits, keys = get('limits'), conversation_keys(TENANT, conversation)
  local function close(turn, asked, pieces, ended, summary)
    conversation_close(keys, {turn = turn, summary = summary, asked = asked,
      said = pieces, ended = ended, limits = limits}, NOW)
  end
  if status ~= 'completed' and not get('rolled_back') then
    local said = redis.call('LRANGE', RECORD .. ':said', 0, -1)
    local saying = redis.call('HGET', RECORD .. ':saying', 'text')
    if saying and saying ~= '' then said[#said + 1] = saying end
    close(TASK_ID, get('asked'), said, status, get('summary'))
  end
  for line in string.gmatch(get('superseded') or '', '[^\n]+') do
    local turn, asked = string.match(line, '^(%S+) (.*)$')
    close(turn, asked, {}, 'cancelled')
  end
end

-- Takes the task out of its conversation's turns. One that is not the next has never
-- begun: it leaves nothing, because the history has the order of acceptance.
local function leave_turns(conversation, status, was_next)
  if was_next and get('asked') then
    -- Half an end would keep all later turns waiting, whatever stands in place of the history.
    pcall(close_turns, conversation, status)
  end
  settle_taken_in()
  redis.call('HDEL', RECORD, 'asked', 'limits', 'superseded', 'summary', 'taken_in')
  redis.call('DEL', RECORD .. ':inbox', RECORD .. ':said', RECORD .. ':saying')
  redis.call('ZREM', TURNS .. conversation, TASK_ID)
end

-- Adds to the end's data the tasks whose messages came too late to steer this run: each
-- is a turn of its own.
local function name_late_messages(data)
  local late = {}
  for _, id in ipairs(redis.call('LRANGE', RECORD .. ':inbox', 0, -1)) do
    local facts = redis.call('HMGET', RECORDS .. id, 'status', 'steers')
    if facts[1] == 'pending' and facts[2] == TASK_ID then late[#late + 1] = id end
  end
  if #late == 0 then return data end
  return string.sub(data, 1, -2) .. ',"not_joined":' .. cjson.encode(late) .. '}'
end

-- What the end of a task hangs on.
local function known_at_end()
  local status, attempt, claim_token, ordinal, agent, queue, created, ran, events, steps, batches,
    failed, cached, keyed, webhook, conversation, suspect = unpack(redis.call('HMGET', RECORD,
    'status', 'attempt', 'claim_token', 'ordinal', 'agent', 'queue', 'created_ms', 'running_ms',
    'events', 'steps', 'recent_batches', 'failed_attempts', 'cache_key', 'idempotency',
    'webhook', 'conversation', 'suspect'))
  return {status = status, attempt = attempt, claim_token = claim_token, ordinal = ordinal,
    agent = agent, queue = queue, created = tonumber(created), ran = tonumber(ran or nil) or 0,
    events = tonumber(events or nil) or 0, steps = tonumber(steps or nil) or 0,
    streamed = steps or batches, failed = failed, cached = cached, keyed = keyed,
    webhook = webhook, conversation = conversation, suspect = suspect, most_keys = 4}
end

-- Writes the step that a run ends with, if any.
local function write_last_step(list, known)
  if #list > 0 then
    write_step(list, known)
    known.streamed, known.most_keys = true, math.max(known.most_keys, NO_JOURNAL + 1)
  end
end

-- Ends the task, with facts to be written along with the status; returns the doorbells of
-- the next turn and of the next suspect. `known` is what known_at_end has read, if it has, and
-- how many of its keys there may be, and whether nobody follows.
local function end_task(status, data, facts, known)
  facts, known = facts or {}, known or known_at_end()
  local agent, conversation, number = known.agent, known.conversation, text(known.events + 1)
  local was_next, bells = not conversation or next_turn(conversation) == TASK_ID, {}
  if known.status == 'running' and known.suspect then
    bells = leave_ship(true)
  end
  local place = #facts
  facts[place + 1], facts[place + 2] = 'finished_ms', AT
  facts[place + 3], facts[place + 4] = 'events', number
  if known.steps > 0 then
    facts[place + 5], facts[place + 6] = 'steps', text(known.steps)
  end
  move(status, facts, known.status, known.ordinal, agent)
  if known.status == 'running' then
    leave_lease()
  else
    leave_lines(known.queue, known.suspect)
  end
  count_time('ended ' .. status, agent, NOW - known.created)
  count('running_ms ' .. agent, known.ran)
  append_numbered(number, 'task.' .. status, known.attempt,
    conversation and name_late_messages(data) or data)
  local cached, keyed = known.cached, known.keyed
  if cached then settle_cache(cached, status) end
  if keyed then settle_idempotency(keyed, get('idempotency_ms')) end
  enter(ENDED, text(NOW + KEEP), MEMBER)
  if known.streamed then -- by steps or before them; nothing else brings a delta
    enter(FLEET .. 'deltas', AT, MEMBER)
  end
  local keys, lives = {RECORD, LOG, JOURNAL, RECORD .. ':budget'}, text(KEEP + BACKSTOP)
  for i = 1, known.most_keys do
    redis.call('PEXPIRE', keys[i], lives)
  end
  if known.webhook then
    redis.call('ZADD', FLEET .. 'webhooks', AT, MEMBER)
  end
  if conversation then
    leave_turns(conversation, status, was_next)
  end
  if conversation and was_next then
    join(bells, wake_next_turn())
  end
  return known.is_unfollowed and bells or join(bells, wake_followers())
end

-- Ends the task for a reason of the store's own.
local function end_with_failure(status, code, message)
  redis.call('HSET', RECORD, 'failure',
    cjson.encode({code = code, message = message, attempt = get_number('attempt')}))
  local data = cjson.encode({status = status, code = code, message = message})
  return end_task(status, data)
end

local function cancelled_data()
  return '{"status":"cancelled"}'
end

-- pending and waiting -> cancelled at once; running keeps its status, shows the request
-- and tells its worker (for `pushed` ms). Returns doorbells.
local function request_cancel(pushed)
  local status = get('status')
  if not status or not next(TRANSITIONS[status]) or get('cancel_requested_ms') then
    return {}
  end
  redis.call('HSET', RECORD, 'cancel_requested_ms', AT)
  if status ~= 'running' then
    return end_task('cancelled', cancelled_data())
  end
  local control = CONTROL .. get('worker')
  redis.call('RPUSH', control, MEMBER)
  redis.call('PEXPIRE', control, pushed)
  append_event('task.cancel_requested', '{}')
  return {}
end
