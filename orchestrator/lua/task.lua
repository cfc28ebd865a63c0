-- What every task script shares; it changes nothing by itself. Stands after the
-- functions of the conversations' append.
--
-- KEYS  1 record (hash)    2 event log (stream)    3 journal (hash)
--       4 prefix of the tenant's records           5 prefix of its turn orders
--       6 prefix of its listings by status         7 due tasks (zset)
--       8 leases (zset)                            9 ended tasks to forget (zset)
--      10 prefix of the agents' health            11 prefix of the workers' control lists
-- ARGV  1 tenant   2 task id   3 resend delay   4 longest resend delay
--       5 how long an ended task is kept (delays in milliseconds)
--
-- User JSON is opaque text here: cjson would turn [] into {}.

local RECORD, LOG, JOURNAL = KEYS[1], KEYS[2], KEYS[3]
local TURNS, LISTING, DUE, LEASES = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local TENANT, TASK_ID = ARGV[1], ARGV[2]
local MEMBER = TENANT .. ' ' .. TASK_ID
local RESEND, MAX_RESEND, KEEP = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

-- What a record means; another number is for workers of another release to run. Raised
-- when an older release would do harm with a record, not when a field is added.
local SCHEMA = '1'

-- Listings outlive a record by lazy removal; its own expiry is only the backstop.
local BACKSTOP = 86400000

local CLOCK = redis.call('TIME')
local NOW = tonumber(CLOCK[1]) * 1000 + math.floor(tonumber(CLOCK[2]) / 1000)

local function text(number)
  return string.format('%.0f', number)
end

local function get(name)
  return redis.call('HGET', RECORD, name) or nil
end

local function get_number(name)
  return tonumber(redis.call('HGET', RECORD, name) or nil)
end

-- Turns to another task of the tenant: what follows reads and changes that one.
local function turn_to(id)
  RECORD, TASK_ID, MEMBER = KEYS[4] .. id, id, TENANT .. ' ' .. id
  LOG, JOURNAL = RECORD .. ':events', RECORD .. ':journal'
end

local function holds_lease(fence)
  return get('status') == 'running' and get('attempt') == fence
end

local function append_event(kind, data)
  local number = redis.call('HINCRBY', RECORD, 'events', 1)
  redis.call('XADD', LOG, '0-' .. text(number), 'type', kind,
    'attempt', get('attempt'), 'at_ms', text(NOW), 'data', data)
end

local function append_events(first)
  for i = first, #ARGV, 2 do
    append_event(ARGV[i], ARGV[i + 1])
  end
end

-- Comes before a transition's other writes, so that a refused one has changed nothing;
-- its own first write is one that a full Redis refuses.
local function move(wanted)
  local status = get('status')
  assert(TRANSITIONS[status][wanted], 'no transition ' .. status .. ' to ' .. wanted)
  redis.call('HSET', RECORD, 'status', wanted)
  redis.call('ZADD', LISTING .. wanted, get('ordinal'), TASK_ID)
  redis.call('ZREM', LISTING .. status, TASK_ID)
end

-- Why the task may no longer begin, or nil.
local function overdue()
  local expires = get_number('expires_at_ms')
  if expires and expires <= NOW and get('attempt') == '0' then
    return 'no worker began the task within its expires limit;'
      .. ' add workers or raise expires'
  end
  local deadline = get_number('deadline_at_ms')
  if deadline and deadline <= NOW then
    return 'the deadline passed before the task had ended; raise deadline'
  end
end

-- The sweeper looks at the task at this instant, or earlier when a limit passes.
local function look_at(instant)
  if get('attempt') == '0' then
    instant = math.min(instant, get_number('expires_at_ms') or instant)
  end
  instant = math.min(instant, get_number('deadline_at_ms') or instant)
  redis.call('ZADD', DUE, text(instant), MEMBER)
end

local function doorbell(id)
  local facts = redis.call('HMGET', KEYS[4] .. id, 'agent', 'queue', 'priority')
  return {TENANT, id, facts[1], facts[2], facts[3]}
end

-- Makes a pending task due: rung now by the caller, or later by the sweeper.
local function make_due(delay)
  redis.call('HSET', RECORD, 'due_ms', text(NOW + delay))
  if delay > 0 then
    redis.call('HSET', RECORD, 'rings', '0')
    look_at(NOW + delay)
    return {}
  end
  redis.call('HSET', RECORD, 'rings', '1')
  look_at(NOW + RESEND)
  return {doorbell(TASK_ID)}
end

local function next_turn(conversation)
  return redis.call('ZRANGE', TURNS .. conversation, 0, 0)[1]
end

local function is_next_turn()
  local conversation = get('conversation')
  return not conversation or next_turn(conversation) == TASK_ID
end

-- The doorbell of the conversation's next turn; the sweeper looks at it after `delay`.
local function wake_next_turn(delay)
  local conversation = get('conversation')
  local id = conversation and next_turn(conversation)
  if not id or id == TASK_ID then
    return {}
  end
  local facts = redis.call('HMGET', KEYS[4] .. id, 'status', 'due_ms')
  if facts[1] ~= 'pending' or tonumber(facts[2]) > NOW then
    return {}
  end
  redis.call('ZADD', DUE, 'LT', text(NOW + delay), TENANT .. ' ' .. id)
  return {doorbell(id)}
end

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
end

-- Leaves what is kept of a turn without an answer, and of those that it superseded.
local function close_turns(conversation, status)
  local limits, keys = get('limits'), conversation_keys(TENANT, conversation)
  local function close(turn, asked, pieces, ended)
    conversation_close(keys,
      {turn = turn, asked = asked, said = pieces, ended = ended, limits = limits}, NOW)
  end
  if status ~= 'completed' and not get('rolled_back') then
    close(TASK_ID, get('asked'), redis.call('LRANGE', RECORD .. ':said', 0, -1), status)
  end
  for line in string.gmatch(get('superseded') or '', '[^\n]+') do
    local turn, asked = string.match(line, '^(%S+) (.*)$')
    close(turn, asked, {}, 'cancelled')
  end
end

-- Ends the task; returns the doorbell of the turn that may run next.
local function end_task(status, data, delay)
  local was_next = is_next_turn()
  move(status)
  leave_due_and_leases()
  redis.call('HSET', RECORD, 'finished_ms', text(NOW))
  append_event('task.' .. status, data)
  settle_cache(status)
  redis.call('ZADD', KEYS[9], text(NOW + KEEP), MEMBER)
  for _, key in ipairs({RECORD, LOG, JOURNAL}) do
    redis.call('PEXPIRE', key, text(KEEP + BACKSTOP))
  end
  local conversation = get('conversation')
  if not conversation then
    return {}
  end
  -- A turn that is not the next one has never begun: it leaves nothing, because the
  -- history has the order of acceptance.
  if was_next and get('asked') then
    close_turns(conversation, status)
  end
  redis.call('HDEL', RECORD, 'asked', 'limits', 'superseded')
  redis.call('DEL', RECORD .. ':inbox', RECORD .. ':said')
  redis.call('ZREM', TURNS .. conversation, TASK_ID)
  return was_next and wake_next_turn(delay or RESEND) or {}
end

-- Ends the task for a reason of the store's own.
local function end_with_failure(status, code, message, delay)
  redis.call('HSET', RECORD, 'failure',
    cjson.encode({code = code, message = message, attempt = get_number('attempt')}))
  local data = cjson.encode({status = status, code = code, message = message})
  return end_task(status, data, delay)
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

-- pending and waiting -> cancelled at once; running keeps its status, shows the request
-- and tells its worker (for `pushed` ms). Returns doorbells.
local function request_cancel(pushed)
  local status = get('status')
  if not status or not next(TRANSITIONS[status]) or get('cancel_requested_ms') then
    return {}
  end
  redis.call('HSET', RECORD, 'cancel_requested_ms', text(NOW))
  if status ~= 'running' then
    return end_task('cancelled', cancelled_data())
  end
  local control = KEYS[11] .. get('worker')
  redis.call('RPUSH', control, MEMBER)
  redis.call('PEXPIRE', control, pushed)
  append_event('task.cancel_requested', '{}')
  return {}
end
