-- Accepts tasks of one tenant, in their order: record, idempotency and cache entries,
-- listings, turn order, due index and first events; or finds the earlier task of an equal
-- request. What many tasks share is looked at and written once.
--
-- KEYS  task.lua's (of no task), then 2 known agents (hash)
-- ARGV  task.lua's, then
--    6 how long an idempotency entry is kept after the task's end (ms)
--    7 how long a pushed cancel is kept (ms)
--    8 limits of a conversation that a turn creates (lines)
--    9 the same of one that is hidden
--   10.. the requests, each as next_request takes it
-- A task that interrupts or rolls back ends every unfinished turn before it. One that
-- steers is taken by the run of the conversation's next turn before a completion
-- (take_messages.lua), and until then waits as any other turn, for when that run ends.
-- Returns {for each request {verdict, id, record, doorbells}, doorbells of others}; of a
-- created record only its instants. While a sweep has found the server unfit nothing new
-- is taken: {'unfit', why, {}, {}}.

local unfit = redis.call('GET', FLEET .. 'unfit')
local place = 9
local function take()
  place = place + 1
  return ARGV[place]
end

local function take_delay()
  local delay = tonumber(take())
  return delay and NOW + delay
end

local function take_list()
  local list = {}
  for i = 1, tonumber(take()) do list[i] = take() end
  return list
end

-- What is absent is '', an instant nil; `hash` is '' without an idempotency key.
local function next_request()
  return {
    id = take(), spec = take(), agent = take(), queue = take(), priority = take(),
    conversation = take(), when_busy = take(), not_before = tonumber(take()),
    expires = take_delay(), deadline = take_delay(), time_limit = take(), hash = take(), idempotency = take(),
    cache_ms = take(), cache = take(), known = take(), asked = take(), webhook = take(),
    traceparent = take(), listings = take_list(), after = take_list(),
  }
end

-- What is written for many tasks at once: members by key, new tasks by agent, ids that may
-- have belonged to ended tasks, and each queue's room and the shares given out in its line.
-- Whoever looks at another task's place must call `settle` before.
local added, born, reborn, lines, newest = {}, {}, {}, {}, nil
local known = {} -- by agent, whether it is

local function add(key, score, member)
  local list = added[key] or {}
  added[key] = list
  list[#list + 1], list[#list + 2] = score, member
end

-- Writes what was gathered; returns doorbells of tasks that found room.
local function settle()
  for key, list in pairs(added) do
    redis.call('ZADD', key, unpack(list))
  end
  for agent, number in pairs(born) do
    count_unfinished('pending', agent, number)
  end
  if #reborn > 0 then
    redis.call('ZREM', ENDED, unpack(reborn))
  end
  local bells, queues = {}, lines
  added, born, reborn, lines = {}, {}, {}, {}
  for queue, line in pairs(queues) do
    for field, share in pairs(line.given) do
      redis.call('HSET', in_fleet('shares', queue), field, text(share))
    end
    if next(line.given) then join(bells, refill(queue)) end
  end
  return bells
end

local function answer(verdict, id, bells)
  return {verdict, id, redis.call('HGETALL', RECORDS .. id), bells}
end

local function ring_if_pending(id)
  local bells = settle()
  local facts = redis.call('HMGET', RECORDS .. id, 'status', 'due_ms')
  local turn = redis.call('HGET', RECORDS .. id, 'conversation')
  local held = tonumber(redis.call('HGET', RECORDS .. id, 'held') or nil) or 0
  if facts[1] ~= 'pending' or tonumber(facts[2]) > NOW or held > 0
    or (turn and next_turn(turn) ~= id) then
    return bells
  end
  return join(bells, offer(id))
end

local function shareable(id, cache_ms)
  local names = {'status', 'finished_ms', 'partial', 'cancel_requested_ms', 'due_ms'}
  local facts = redis.call('HMGET', RECORDS .. id, unpack(names))
  if not facts[1] or facts[4] then
    return false
  end
  if next(TRANSITIONS[facts[1]]) then
    -- One that is delayed would have this request wait for a time it did not ask for.
    return facts[1] ~= 'pending' or (tonumber(facts[5] or nil) or 0) <= NOW
  end
  return facts[1] == 'completed' and facts[3] ~= '1'
    and tonumber(facts[2]) + tonumber(cache_ms) > NOW
end

-- The task whose run a steering task joined, or is about to join.
local function addressee(id)
  local into = redis.call('HGET', RECORDS .. id, 'steers')
  if into and redis.call('HGET', RECORDS .. into, 'status') == 'running' then
    return into
  end
  return id
end

local function earlier_task(asked)
  local joined = asked.conversation ~= '' and redis.call('GET', RECORD .. ':joined')
  if joined then
    return joined, 'repeated'
  end
  if redis.call('EXISTS', RECORD) == 1 then
    local same = get('spec') == asked.spec
    return addressee(TASK_ID), same and 'repeated' or 'conflict'
  end
  if asked.hash ~= '' then
    local entry = redis.call('GET', asked.idempotency)
    local id, hash = string.match(entry or '', '^(%S+) (%S+)$')
    if id and redis.call('EXISTS', RECORDS .. id) == 1 then
      return addressee(id), hash == asked.hash and 'repeated' or 'conflict'
    end
  end
  if asked.cache_ms ~= '' then
    local id = redis.call('GET', asked.cache)
    if id and shareable(id, asked.cache_ms) then
      return id, 'shared'
    end
  end
end

-- Keeps the question of a turn that ends before an earlier one, for after that one.
local function leave_to(first, id)
  local asked = redis.call('HGET', RECORDS .. id, 'asked')
  if not asked then
    return
  end
  local record, line = RECORDS .. first, id .. ' ' .. asked
  local before = redis.call('HGET', record, 'superseded')
  redis.call('HSET', record, 'superseded', before and before .. '\n' .. line or line)
end

-- Cancels every unfinished turn; those that are rolled back leave nothing behind. The
-- last comes first, so that none of them is offered when the one before it ends.
local function supersede(conversation, rolls_back)
  local own, bells = TASK_ID, settle()
  local turns = redis.call('ZRANGE', TURNS .. conversation, 0, -1)
  for i = 2, rolls_back and 0 or #turns do
    leave_to(turns[1], turns[i])
  end
  for i = #turns, 1, -1 do
    turn_to(turns[i])
    if rolls_back then
      redis.call('HSET', RECORD, 'rolled_back', '1')
    end
    join(bells, request_cancel(ARGV[7]))
  end
  turn_to(own)
  return bells
end

-- A task that waits for others or for its time does not speak to a run before.
local function may_steer(head, waits)
  local facts = redis.call('HMGET', RECORDS .. head, 'status', 'cancel_requested_ms')
  return facts[1] == 'running' and not facts[2] and not waits
end

-- Unique within the tenant, so that pages and turns have one order.
local function next_ordinal(listing)
  if not newest then
    newest = tonumber(redis.call('ZREVRANGE', listing, 0, 0, 'WITHSCORES')[2] or nil) or 0
  end
  newest = math.max(NOW, newest + 1)
  return text(newest)
end

local function write_record(asked, ordinal, due, talk)
  local now = text(NOW)
  local facts = {'schema', SCHEMA, 'spec', asked.spec, 'agent', asked.agent,
    'queue', asked.queue, 'priority', asked.priority, 'status', 'pending', 'attempt', '0',
    'events', '2', 'ordinal', ordinal, 'created_ms', now, 'due_ms', text(due), 'rings', '0'}
  local function keep(name, value)
    if value ~= '' then
      facts[#facts + 1], facts[#facts + 2] = name, value
    end
  end
  keep('time_limit_ms', asked.time_limit)
  keep('webhook', asked.webhook)
  keep('traceparent', asked.traceparent)
  keep('expires_at_ms', asked.expires and text(asked.expires) or '')
  keep('deadline_at_ms', asked.deadline and text(asked.deadline) or '')
  if talk then
    keep('conversation', asked.conversation)
    keep('asked', asked.asked)
    -- Should the conversation expire before the turn ends, it begins anew as it was.
    local limits = conversation_hides(asked.conversation) and ARGV[9] or ARGV[8]
    keep('limits', conversation_limits(talk) or limits)
    conversation_keep(talk)
  end
  if asked.hash ~= '' then
    keep('idempotency', asked.idempotency)
    keep('idempotency_ms', ARGV[6])
  end
  if asked.cache_ms ~= '' then
    keep('cache_key', asked.cache)
  end
  redis.call('HSET', RECORD, unpack(facts))
  redis.call('XADD', LOG, '0-1', 'type', 'task.created', 'attempt', '0', 'at_ms', now,
    'data', '{"agent_name":"' .. asked.agent .. '"' .. (asked.traceparent ~= ''
      and ',"traceparent":"' .. asked.traceparent .. '"' or '') .. '}')
  redis.call('XADD', LOG, '0-2', 'type', 'task.queued', 'attempt', '0', 'at_ms', now,
    'data', '{"queue":"' .. asked.queue .. '"}')
end

local function write_places(asked, ordinal)
  if asked.hash ~= '' then
    redis.call('SET', asked.idempotency, TASK_ID .. ' ' .. asked.hash)
  end
  if asked.cache_ms ~= '' then
    redis.call('SET', asked.cache, TASK_ID)
  end
  if asked.conversation ~= '' then
    redis.call('ZADD', TURNS .. asked.conversation, ordinal, TASK_ID)
  end
  for _, key in ipairs(asked.listings) do
    add(key, ordinal, TASK_ID)
  end
  add(LISTING .. 'pending', ordinal, TASK_ID)
  born[asked.agent] = (born[asked.agent] or 0) + 1
end

-- As stand_in_line does it, for many.
local function join_line(line, queue, band)
  local field, share = line.fields[band]
  if field then
    share = line.given[field] + 1
  else
    share, field = next_share(queue, band)
    line.fields[band] = field
  end
  line.given[field] = share
  add(in_fleet('ready', queue), text(band * BAND + share), MEMBER)
end

-- Where a task that may run now stands: rung for while there is room, else in line.
local function admit(asked)
  local queue, line = asked.queue, lines[asked.queue]
  if not line then
    redis.call('SADD', FLEET .. 'queues', queue)
    local waiting = redis.call('EXISTS', in_fleet('ready', queue)) == 1
    line = {room = waiting and 0 or room(queue), fields = {}, given = {}}
    lines[queue] = line
  end
  if line.room <= 0 then
    join_line(line, queue, 9 - tonumber(asked.priority))
    return NOW + LINE_PATIENCE, nil
  end
  line.room = line.room - 1
  redis.call('HSET', RECORD, 'rings', '1', 'rung_ms', text(NOW))
  local bell = {TENANT, TASK_ID, asked.agent, queue, asked.priority, asked.traceparent}
  return NOW + RESEND, send(bell, MEMBER)
end

-- The sweeper looks at a task at this instant, or earlier when a limit passes.
local function sooner(instant, asked)
  return math.min(instant, asked.expires or instant, asked.deadline or instant)
end

-- Returns when the sweeper looks at it, and its doorbell if somebody must ring for it.
local function place_of(asked, due, waits)
  if waits or (asked.conversation ~= '' and next_turn(asked.conversation) ~= TASK_ID) then
    return due > NOW and due or NOW + MAX_RESEND, nil
  end
  return admit(asked)
end

local function create(asked, talk, head)
  local due = math.max(NOW, asked.not_before or NOW)
  -- The wait for the first claim begins when that is possible.
  asked.expires = asked.expires and asked.expires + due - NOW
  local ordinal, rule, bells = next_ordinal(asked.listings[1]), asked.when_busy, {}
  -- An ended task of this id may have expired before it was forgotten.
  reborn[#reborn + 1] = MEMBER
  write_record(asked, ordinal, due, talk)
  if head and (rule == 'interrupt' or rule == 'rollback') then
    bells = supersede(asked.conversation, rule == 'rollback')
  end
  write_places(asked, ordinal)
  local waits = hold_until_ended(asked.after) or due > NOW
  local instant, bell = place_of(asked, due, waits)
  add(DUE, text(sooner(instant, asked)), MEMBER)
  if bell and not bell[7] then
    bells[#bells + 1] = bell
  end
  if head and rule == 'steer' and may_steer(head, waits) then
    redis.call('HSET', RECORD, 'steers', head, 'listings', table.concat(asked.listings, ' '))
    redis.call('RPUSH', RECORDS .. head .. ':inbox', TASK_ID)
    return answer('steered', head, bells)
  end
  return {'created', TASK_ID, {'created_ms', text(NOW), 'due_ms', text(due)}, bells}
end

-- Whether an agent was ever announced; where none was, any name will do.
local function is_known(agent)
  if known[agent] == nil then
    known[agent] = redis.call('HEXISTS', KEYS[2], agent) == 1
      or redis.call('HLEN', KEYS[2]) == 0
  end
  return known[agent]
end

local function accept(asked)
  turn_to(asked.id)
  local id, verdict = earlier_task(asked)
  if verdict then
    return answer(verdict, id, verdict == 'repeated' and ring_if_pending(id) or {})
  end
  if unfit then
    return {'unfit', unfit, {}, {}}
  end
  if asked.known ~= '1' and not is_known(asked.agent) then
    return {'agent_not_found', TASK_ID, {}, {}}
  end
  local conversation = asked.conversation
  local talk = conversation ~= '' and conversation_keys(TENANT, conversation)
  if talk and redis.call('EXISTS', talk[6]) == 1 then
    return {'conversation_deleted', TASK_ID, {}, {}}
  end
  local head = talk and next_turn(conversation)
  if head and asked.when_busy == 'reject' then
    return {'busy', TASK_ID, {}, {}}
  end
  return create(asked, talk, head)
end

local answers = {}
while place < #ARGV do
  answers[#answers + 1] = accept(next_request())
end
return {answers, settle()}
