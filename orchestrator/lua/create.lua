-- Accepts tasks of one tenant, in their order: record, idempotency and cache entries,
-- listings, turn order, due index and first events; or finds the earlier task of an equal
-- request. What many tasks share is looked at and written once.
--
-- KEYS  task.lua's (of the first task)
-- ARGV  task.lua's, then 6.. the requests, each as next_request takes it
-- A task that interrupts or rolls back ends every unfinished turn before it. One that
-- steers is taken by the run of the conversation's next turn before a completion
-- (take_messages.lua), and until then waits as any other turn, for when that run ends.
-- Returns {the instant of this call, an answer to each request, doorbells of others}. The
-- answer is when the task is due that was created, or {verdict, id, record, doorbells}; of a
-- created one the record is that instant alone. While a sweep has found the server unfit
-- nothing new is taken: {'unfit', why, {}, {}}.

local TASKS, AGENTS, AT = ROOT .. TENANT .. ':tasks:', FLEET .. 'agents', text(NOW)
local place, kind = 5, nil
local LISTS = {tag = true, after = true} -- facts that may come several times

local function take()
  place = place + 1
  return ARGV[place]
end

-- Id, specification, agent, queue, priority, '1' where the agent is known, and time limit, or
-- '' in place of these five where they are those of the request before; then how many more
-- facts there are, and name and value of each; a `tag` is the key of a listing.
local function next_request()
  local id, spec, agent = take(), take(), take()
  if agent ~= '' then
    kind = {agent = agent, queue = take(), priority = take(), known = take() == '1',
      time_limit = take(), listing = TASKS .. 'agent:' .. agent}
  end
  local more = tonumber(take())
  local asked = {id = id, spec = spec, kind = kind, more = more > 0}
  for _ = 1, more do
    local name, value = take(), take()
    if LISTS[name] then
      asked[name] = join(asked[name] or {}, {value})
    else
      asked[name] = value
    end
  end
  return asked
end

-- What the first look has found: why nothing new is taken, whether no request's record was
-- there, and of a queue whether somebody stood in its line.
local unfit, is_fresh, stood = nil, false, {}
-- What is written for many tasks at once: members by key, new tasks by agent, ids that may
-- have belonged to ended tasks, and each queue's room and the shares given out in its line.
-- Whoever looks at another task's place must call `settle` before. One task alone is
-- written at once.
local is_alone = false
local added, born, reborn, lines, newest = {}, {}, {}, {}, nil
local made = {} -- by id, whether this call has created it
local known = {} -- by agent, whether it is

local function look(requests)
  local queue, keys = requests[1].kind.queue, {FLEET .. 'unfit'}
  for i, asked in ipairs(requests) do
    keys[i + 1] = RECORDS .. asked.id
  end
  local ready = in_fleet('ready', queue)
  local found = redis.call('EXISTS', ready, unpack(keys))
  local waiting = found > 0 and redis.call('EXISTS', ready) or 0
  stood[queue], is_fresh = waiting == 1, found == waiting
  if not is_fresh then
    unfit = redis.call('GET', FLEET .. 'unfit')
  end
end

local function add(key, score, member)
  local list = added[key]
  if is_alone then
    redis.call('ZADD', key, score, member)
  elseif list then
    local last = #list
    list[last + 1], list[last + 2] = score, member
  else
    added[key] = {score, member}
  end
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
  added, born, reborn, lines, stood = {}, {}, {}, {}, {}
  for queue, line in pairs(queues) do
    for field, share in pairs(line.given or {}) do
      redis.call('HSET', in_fleet('shares', queue), field, text(share))
    end
    -- Each claim and each sweep refills. A submit does where hardly a message is out.
    if line.waiting and line.rung < DISPATCH_WINDOW then join(bells, refill(queue)) end
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

local function is_there()
  return (not is_fresh or made[TASK_ID]) and redis.call('EXISTS', RECORD) == 1
end

local function earlier_task(asked)
  local joined = asked.conversation and redis.call('GET', RECORD .. ':joined')
  if joined then
    return joined, 'repeated'
  end
  if is_there() then
    local same = get('spec') == asked.spec
    return addressee(TASK_ID), same and 'repeated' or 'conflict'
  end
  if asked.hash then
    local entry = redis.call('GET', asked.idempotency)
    local id, hash = string.match(entry or '', '^(%S+) (%S+)$')
    if id and redis.call('EXISTS', RECORDS .. id) == 1 then
      return addressee(id), hash == asked.hash and 'repeated' or 'conflict'
    end
  end
  if asked.cache then
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

-- Cancels every unfinished turn, a pushed cancel kept for so long (ms); those that are rolled
-- back leave nothing behind. The last comes first, so that none of them is offered when the
-- one before it ends.
local function supersede(conversation, rolls_back, pushed)
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
    join(bells, request_cancel(pushed))
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
local function next_ordinal()
  if not newest then
    local last = redis.call('ZREVRANGE', TASKS .. 'all', '0', '0', 'WITHSCORES')[2]
    newest = tonumber(last or nil) or 0
  end
  newest = math.max(NOW, newest + 1)
  return newest == NOW and AT or text(newest)
end

local function listings_of(asked)
  local listings = {TASKS .. 'all', asked.kind.listing}
  if asked.conversation then
    listings[3] = TASKS .. 'conversation:' .. asked.conversation
  end
  return asked.tag and join(listings, asked.tag) or listings
end

local function write_places(asked, ordinal)
  if asked.hash then
    redis.call('SET', asked.idempotency, TASK_ID .. ' ' .. asked.hash)
  end
  if asked.cache then
    redis.call('SET', asked.cache, TASK_ID)
  end
  if asked.conversation then
    redis.call('ZADD', TURNS .. asked.conversation, ordinal, TASK_ID)
  end
  for _, key in ipairs(listings_of(asked)) do
    add(key, ordinal, TASK_ID)
  end
  add(LISTING .. 'pending', ordinal, TASK_ID)
  local agent = asked.kind.agent
  born[agent] = (born[agent] or 0) + 1
  if asked.named then reborn[#reborn + 1] = MEMBER end
  made[TASK_ID] = true
end

-- As stand_in_line does it, for many.
local function join_line(line, queue, band)
  local fields, given = line.fields or {}, line.given or {}
  local field, share = fields[band], nil
  if field then
    share = given[field] + 1
  else
    share, field = next_share(queue, band)
  end
  fields[band], given[field] = field, share
  line.fields, line.given = fields, given
  add(in_fleet('ready', queue), text(band * BAND + share), MEMBER)
end

-- A queue where somebody stands in line or is rung for is among those that are swept.
local function line_of(queue, most)
  local line = lines[queue]
  if line then return line end
  local rung, waiting = redis.call('ZCARD', in_fleet('rung', queue)), stood[queue]
  if waiting == nil then
    waiting = redis.call('EXISTS', in_fleet('ready', queue)) == 1
  end
  if not waiting and rung == 0 then redis.call('SADD', FLEET .. 'queues', queue) end
  line = {waiting = waiting, rung = rung, room = 0}
  if not waiting then
    line.room = (rung + most > DISPATCH_WINDOW and window(queue) or DISPATCH_WINDOW) - rung
  end
  lines[queue] = line
  return line
end

-- Where a task that may run now stands: rung for while there is room, else in line.
local function admit(asked, most)
  local of = asked.kind
  local line = line_of(of.queue, most)
  if line.room <= 0 then
    join_line(line, of.queue, 9 - tonumber(of.priority))
    return NOW + LINE_PATIENCE, nil
  end
  line.room = line.room - 1
  local bell = {TENANT, TASK_ID, of.agent, of.queue, of.priority, asked.traceparent or '', nil}
  return NOW + RESEND, send(bell, MEMBER)
end

-- Returns when the sweeper looks at it, and its doorbell if it is rung for.
local function place_of(asked, due, waits, most)
  if waits or (asked.conversation and next_turn(asked.conversation) ~= TASK_ID) then
    return due > NOW and due or NOW + MAX_RESEND, nil
  end
  return admit(asked, most)
end

local function create(asked, talk, head, most)
  local due = math.max(NOW, tonumber(asked.not_before) or NOW)
  -- The wait for the first claim begins when that is possible.
  local expires = asked.expires and due + asked.expires
  local deadline = asked.deadline and NOW + asked.deadline
  local ordinal, rule, bells = next_ordinal(), asked.when_busy, {}
  if head and (rule == 'interrupt' or rule == 'rollback') then
    bells = supersede(asked.conversation, rule == 'rollback', asked.pushed)
  end
  write_places(asked, ordinal)
  local held = asked.after and hold_until_ended(asked.after) or 0
  local waits = held > 0 or due > NOW
  local instant, bell = place_of(asked, due, waits, most)
  local begins = due == NOW and AT or text(due)
  write_record({asked = asked, ordinal = ordinal, due = begins, is_rung = bell, held = held,
    expires = expires, deadline = deadline}, talk, AT)
  write_first_events(asked, AT)
  -- The sweeper looks at it at this instant, or earlier when a limit passes.
  add(DUE, text(math.min(instant, expires or instant, deadline or instant)), MEMBER)
  if bell and not bell[7] then
    bells[#bells + 1] = bell
  end
  if head and rule == 'steer' and may_steer(head, waits) then
    redis.call('HSET', RECORD, 'steers', head, 'listings', table.concat(listings_of(asked), ' '))
    redis.call('RPUSH', RECORDS .. head .. ':inbox', TASK_ID)
    return answer('steered', head, bells)
  end
  return #bells == 0 and begins or {'created', TASK_ID, {begins}, bells}
end

-- Whether an agent was ever announced; where none was, any name will do.
local function is_known(agent)
  if known[agent] == nil then
    known[agent] = redis.call('HEXISTS', AGENTS, agent) == 1
      or redis.call('HLEN', AGENTS) == 0
  end
  return known[agent]
end

local function accept(asked, most)
  if asked.id ~= TASK_ID then turn_to(asked.id) end
  local id, verdict = earlier_task(asked)
  if verdict then
    return answer(verdict, id, verdict == 'repeated' and ring_if_pending(id) or {})
  end
  if unfit then
    return {'unfit', unfit, {}, {}}
  end
  if not asked.kind.known and not is_known(asked.kind.agent) then
    return {'agent_not_found', TASK_ID, {}, {}}
  end
  local conversation = asked.conversation
  local talk = conversation and conversation_keys(TENANT, conversation)
  if talk and redis.call('EXISTS', talk[6]) == 1 then
    return {'conversation_deleted', TASK_ID, {}, {}}
  end
  local head = talk and next_turn(conversation)
  if head and asked.when_busy == 'reject' then
    return {'busy', TASK_ID, {}, {}}
  end
  return create(asked, talk, head, most)
end

local requests, answers = {}, {}
while place < #ARGV do
  requests[#requests + 1] = next_request()
end
is_alone = #requests == 1
look(requests)
for i, asked in ipairs(requests) do
  answers[i] = accept(asked, #requests)
end
return {AT, answers, settle()}
