-- Accepts a task: record, idempotency and cache entries, listings, turn order, due
-- index and first events; or finds the earlier task of an equal request.
--
-- KEYS  task.lua's, then
--   13 known agents (hash)   14 idempotency entry   15 cache entry
--   16 the tenant's listing of all tasks, further ones: its other listings
-- ARGV  task.lua's, then
--    6 specification (JSON)      7 agent         8 queue        9 priority
--   10 conversation or ''       11 when_busy    12 not before (ms) or ''
--   13 expires (ms) or ''       14 deadline (ms) or ''
--   15 time limit (ms) or ''    16 request hash or '' (no idempotency key)
--   17 how long an idempotency entry is kept after the task's end (ms)
--   18 cache time (ms) or ''    19 '1' when the submitter knows the agent
--   20 the turn's user message (JSON) or ''
--   21 limits of a conversation that its turn creates (lines) or ''
--   22 how long a pushed cancel is kept (ms)
--   23 '1' when it has a webhook
--   24.. ids of the tasks that must end first
-- A task that interrupts or rolls back ends every unfinished turn before it. One that
-- steers is taken by the run of the conversation's next turn before a completion
-- (take_messages.lua), and until then waits as any other turn, for when that run ends.
-- Returns {verdict, id, record, doorbells}; of a created record only its instants. While
-- a sweep has found the server unfit nothing new is taken: {'unfit', why, {}, {}}.

local function answer(verdict, id, bells)
  return {verdict, id, redis.call('HGETALL', KEYS[4] .. id), bells}
end

local function ring_if_pending(id)
  local facts = redis.call('HMGET', KEYS[4] .. id, 'status', 'due_ms')
  local turn = redis.call('HGET', KEYS[4] .. id, 'conversation')
  local held = tonumber(redis.call('HGET', KEYS[4] .. id, 'held') or nil) or 0
  if facts[1] ~= 'pending' or tonumber(facts[2]) > NOW or held > 0
    or (turn and next_turn(turn) ~= id) then
    return {}
  end
  return offer(id)
end

local function shareable(id)
  local names = {'status', 'finished_ms', 'partial', 'cancel_requested_ms', 'due_ms'}
  local facts = redis.call('HMGET', KEYS[4] .. id, unpack(names))
  if not facts[1] or facts[4] then
    return false
  end
  if next(TRANSITIONS[facts[1]]) then
    -- One that is delayed would have this request wait for a time it did not ask for.
    return facts[1] ~= 'pending' or (tonumber(facts[5] or nil) or 0) <= NOW
  end
  return facts[1] == 'completed' and facts[3] ~= '1'
    and tonumber(facts[2]) + tonumber(ARGV[18]) > NOW
end

-- The task whose run a steering task joined, or is about to join.
local function addressee(id)
  local into = redis.call('HGET', KEYS[4] .. id, 'steers')
  if into and redis.call('HGET', KEYS[4] .. into, 'status') == 'running' then
    return into
  end
  return id
end

local function earlier_task()
  local joined = redis.call('GET', RECORD .. ':joined')
  if joined then
    return joined, 'repeated'
  end
  if redis.call('EXISTS', RECORD) == 1 then
    local same = get('spec') == ARGV[6]
    return addressee(TASK_ID), same and 'repeated' or 'conflict'
  end
  if ARGV[16] ~= '' then
    local entry = redis.call('GET', KEYS[14])
    local id, hash = string.match(entry or '', '^(%S+) (%S+)$')
    if id and redis.call('EXISTS', KEYS[4] .. id) == 1 then
      return addressee(id), hash == ARGV[16] and 'repeated' or 'conflict'
    end
  end
  if ARGV[18] ~= '' then
    local id = redis.call('GET', KEYS[15])
    if id and shareable(id) then
      return id, 'shared'
    end
  end
end

local id, verdict = earlier_task()
if verdict == 'repeated' then
  return answer(verdict, id, ring_if_pending(id))
elseif verdict then
  return answer(verdict, id, {})
end
local unfit = redis.call('GET', FLEET .. 'unfit')
if unfit then
  return {'unfit', unfit, {}, {}}
end
if ARGV[19] ~= '1' and redis.call('HLEN', KEYS[13]) > 0
  and redis.call('HEXISTS', KEYS[13], ARGV[7]) == 0 then
  return {'agent_not_found', TASK_ID, {}, {}}
end
local conversation, rule = ARGV[10], ARGV[11]
local talk = conversation ~= '' and conversation_keys(TENANT, conversation)
if talk and redis.call('EXISTS', talk[6]) == 1 then
  return {'conversation_deleted', TASK_ID, {}, {}}
end
local head = conversation ~= '' and next_turn(conversation)
if head and rule == 'reject' then
  return {'busy', TASK_ID, {}, {}}
end

-- Keeps the question of a turn that ends before an earlier one, for after that one.
local function leave_to(first, id)
  local asked = redis.call('HGET', KEYS[4] .. id, 'asked')
  if not asked then
    return
  end
  local record, line = KEYS[4] .. first, id .. ' ' .. asked
  local before = redis.call('HGET', record, 'superseded')
  redis.call('HSET', record, 'superseded', before and before .. '\n' .. line or line)
end

-- Cancels every unfinished turn; those that are rolled back leave nothing behind. The
-- last comes first, so that none of them is offered when the one before it ends.
local function supersede(rolls_back)
  local own, bells = TASK_ID, {}
  local turns = redis.call('ZRANGE', TURNS .. conversation, 0, -1)
  for i = 2, rolls_back and 0 or #turns do
    leave_to(turns[1], turns[i])
  end
  for i = #turns, 1, -1 do
    turn_to(turns[i])
    if rolls_back then
      redis.call('HSET', RECORD, 'rolled_back', '1')
    end
    join(bells, request_cancel(ARGV[22]))
  end
  turn_to(own)
  return bells
end

-- A task that waits for others or for its time does not speak to a run before.
local function may_steer()
  local facts = redis.call('HMGET', KEYS[4] .. head, 'status', 'cancel_requested_ms')
  return facts[1] == 'running' and not facts[2]
    and not is_held() and get_number('due_ms') <= NOW
end

-- Unique within the tenant, so that pages and turns have one order.
local newest = redis.call('ZREVRANGE', KEYS[16], 0, 0, 'WITHSCORES')[2]
local ordinal = text(math.max(NOW, (tonumber(newest or nil) or 0) + 1))

-- An ended task of this id may have expired before it was forgotten.
redis.call('ZREM', KEYS[9], MEMBER)
redis.call('HSET', RECORD, 'schema', SCHEMA, 'spec', ARGV[6], 'agent', ARGV[7], 'queue', ARGV[8],
  'priority', ARGV[9], 'status', 'pending', 'attempt', '0', 'events', '0',
  'ordinal', ordinal, 'created_ms', text(NOW))
local function keep(name, value)
  if value ~= '' then
    redis.call('HSET', RECORD, name, value)
  end
end
local function from_now(delay)
  return delay == '' and '' or text(NOW + tonumber(delay))
end
keep('conversation', conversation)
keep('expires_at_ms', from_now(ARGV[13]))
keep('deadline_at_ms', from_now(ARGV[14]))
keep('time_limit_ms', ARGV[15])
keep('asked', ARGV[20])
-- Should the conversation expire before the turn ends, it begins anew as it was.
keep('limits', talk and conversation_limits(talk) or ARGV[21])
if talk then conversation_keep(talk) end
local bells = {}
if head and (rule == 'interrupt' or rule == 'rollback') then
  bells = supersede(rule == 'rollback')
end
if ARGV[16] ~= '' then
  redis.call('SET', KEYS[14], TASK_ID .. ' ' .. ARGV[16])
  redis.call('HSET', RECORD, 'idempotency', KEYS[14], 'idempotency_ms', ARGV[17])
end
if ARGV[18] ~= '' then
  redis.call('HSET', RECORD, 'cache_key', KEYS[15])
  redis.call('SET', KEYS[15], TASK_ID)
end
if conversation ~= '' then
  redis.call('ZADD', TURNS .. conversation, ordinal, TASK_ID)
end
for i = 16, #KEYS do
  redis.call('ZADD', KEYS[i], ordinal, TASK_ID)
end
redis.call('ZADD', LISTING .. 'pending', ordinal, TASK_ID)
count_unfinished('pending', ARGV[7], 1)
append_event('task.created', cjson.encode({agent_name = ARGV[7]}))
append_event('task.queued', cjson.encode({queue = ARGV[8]}))
keep('webhook', ARGV[23])
hold_until_ended(24)
join(bells, make_due(math.max(0, (tonumber(ARGV[12]) or NOW) - NOW)))
if head and rule == 'steer' and may_steer() then
  redis.call('HSET', RECORD, 'steers', head, 'listings', table.concat(KEYS, ' ', 16))
  redis.call('RPUSH', KEYS[4] .. head .. ':inbox', TASK_ID)
  return answer('steered', head, bells)
end
return {'created', TASK_ID, {'created_ms', get('created_ms'), 'due_ms', get('due_ms')},
  bells}
