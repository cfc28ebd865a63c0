-- Accepts tasks of one tenant, in their order: record, idempotency and cache entries,
-- listings, turn order, due index and first events; or finds the earlier task of an equal
-- request. What many tasks share is looked at and written once.
--
-- KEYS  task.lua's (of the first task)
-- ARGV  task.lua's, then 6.. the requests as next_request takes them, ids before all but the
--       first
-- A task that interrupts or rolls back ends every unfinished turn before it. One that
-- steers is taken by the run of the conversation's next turn before a completion
-- (take_messages.lua), and until then waits as any other turn, for when that run ends.
-- Returns {the instant of this call, an answer to each request}: when the task is due that
-- was created, or {verdict, id, record, doorbells}; of a created one the record is that
-- instant alone. While a sweep has found the server unfit nothing new is taken: {'unfit',
-- why, {}, {}}.

local TASKS = ROOT .. TENANT .. ':tasks:'
local place, kind = 5, nil

local function take()
  place = place + 1
  return ARGV[place]
end

-- Specification; in words how many more facts there are and, where they are not those of the
-- request before, agent, queue, priority, '1' where the agent is known, and time limit (ms)
-- if any; then name and value of each fact, a `tag` being the key of a listing.
local function next_request(id)
  local spec, told = take(), take()
  local more, agent, queue, priority, known, limit = told, nil, nil, nil, nil, nil
  if told ~= '0' then
    more, agent, queue, priority, known, limit =
      string.match(told, '^(%d+) ?(%S*) ?(%S*) ?(%d*) ?(%d?) ?(%d*)$')
  end
  if agent and agent ~= '' then
    kind = {agent = agent, queue = queue, priority = priority, known = known == '1' or nil,
      time_limit = limit, listing = TASKS .. 'agent:' .. agent,
      created = '{"agent_name":"' .. agent .. '"', queued = '{"queue":"' .. queue .. '"}'}
  end
  local asked = {id = id, spec = spec, kind = kind}
  if more == '0' then return asked end
  asked.more = true
  for _ = 1, tonumber(more) do
    local name, value = take(), take()
    if name == 'tag' or name == 'after' then
      asked[name] = join(asked[name] or {}, {value})
    else
      asked[name] = value
    end
  end
  return asked
end

-- What the first look has found: why nothing new is taken, whether no request's record was
-- there, and of a queue whether somebody stood in its line.
local unfit, is_fresh, looked_at, stood = nil, false, nil, false
-- Of many tasks, what is written for all at once beside what gathering.lua keeps: each queue's
-- room and the shares given out in its line; and by id whether this call has made it. Whoever
-- looks at another task's place must call `settle_lines` before. Of one alone all is written
-- where it is known.
local many, newest = nil, nil
local looked_for, looked_for_text = nil, nil -- the instant at which most are looked at

local function new_many(made)
  return {lines = {}, made = made}
end

local function look(requests)
  local queue, keys = requests[1].kind.queue, {FLEET .. 'unfit'}
  for i, asked in ipairs(requests) do
    keys[i + 1] = RECORDS .. asked.id
  end
  local ready = in_fleet('ready', queue)
  local found = redis.call('EXISTS', ready, unpack(keys))
  local waiting = found > 0 and redis.call('EXISTS', ready) or 0
  looked_at, stood, is_fresh = queue, waiting == 1, found == waiting
  if not is_fresh then unfit = redis.call('GET', FLEET .. 'unfit') end
end

-- Writes what was gathered.
local function settle_lines()
  looked_at = nil
  settle()
  if not many then return end
  local lines = many.lines
  many = new_many(many.made)
  for queue, line in pairs(lines) do
    for field, share in pairs(line.given) do
      redis.call('HSET', in_fleet('shares', queue), field, text(share))
    end
  end
end

local function answer(verdict, id, bells)
  return {verdict, id, redis.call('HGETALL', RECORDS .. id), bells}
end

local function ring_if_pending(id)
  settle_lines()
  local facts = redis.call('HMGET', RECORDS .. id, 'status', 'due_ms')
  local turn = redis.call('HGET', RECORDS .. id, 'conversation')
  local held = tonumber(redis.call('HGET', RECORDS .. id, 'held') or nil) or 0
  if facts[1] ~= 'pending' or tonumber(facts[2]) > NOW or held > 0
    or (turn and next_turn(turn) ~= id) then
    return {}
  end
  return offer(id)
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
  return (not is_fresh or (many and many.made[TASK_ID])) and redis.call('EXISTS', RECORD) == 1
end

local function earlier_task(asked)
  local joined = asked.conversation and redis.call('GET', RECORD .. ':joined')
  if joined and redis.call('EXISTS', RECORDS .. joined) == 1 then
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
      if asked.hash then -- a key leads to what its request was given, whoever asked first
        redis.call('SET', asked.idempotency, id .. ' ' .. asked.hash, 'PX', asked.idempotency_ms)
      end
      return id, 'shared'
    end
  end
end

-- Keeps the questions of turns that end before the first of them, for after that one.
local function leave_to_first(turns)
  local record = RECORDS .. turns[1]
  local lines = {redis.call('HGET', record, 'superseded') or nil}
  for i = 2, #turns do
    local asked = redis.call('HGET', RECORDS .. turns[i], 'asked')
    if asked then lines[#lines + 1] = turns[i] .. ' ' .. asked end
  end
  if #lines > 0 then
    redis.call('HSET', record, 'superseded', table.concat(lines, '\n'))
  end
end

-- Cancels every unfinished turn, a pushed cancel kept for so long (ms); those that are rolled
-- back leave nothing behind. The last comes first, so that none of them is offered when the
-- one before it ends.
local function supersede(conversation, rolls_back, pushed)
  local own, bells = TASK_ID, {}
  settle_lines()
  local turns = redis.call('ZRANGE', TURNS .. conversation, 0, -1)
  if not rolls_back then leave_to_first(turns) end
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
    enter(key, ordinal, TASK_ID)
  end
  enter(LISTING .. 'pending', ordinal, TASK_ID)
end

local function count_in(agent, is_named)
  count_unfinished('pending', agent, 1)
  if is_named then leave(ENDED, MEMBER) end
  if many then many.made[TASK_ID] = true end
end

-- How many tasks may be rung for, none past those who stand in line. A queue where somebody
-- stands in line or is rung for is among those that are swept.
local function room_for(queue, most)
  local waiting = stood
  if looked_at ~= queue then
    waiting = redis.call('EXISTS', in_fleet('ready', queue)) == 1
  end
  if waiting then return 0 end
  local rung = redis.call('ZCARD', in_fleet('rung', queue))
  if rung == 0 then redis.call('SADD', FLEET .. 'queues', queue) end
  return (rung + most > DISPATCH_WINDOW and window(queue) or DISPATCH_WINDOW) - rung
end

-- As stand_in_line does it, for many.
local function join_line(line, queue, band)
  local field, share = line.fields[band], nil
  if field then
    share = line.given[field] + 1
  else
    share, field = next_share(queue, band)
    line.fields[band] = field
  end
  line.given[field] = share
  enter(in_fleet('ready', queue), text(band * BAND + share), MEMBER)
end

local function has_room(queue, most)
  if not many then return room_for(queue, most) > 0 end
  local line = many.lines[queue]
  if not line then
    line = {room = room_for(queue, most), fields = {}, given = {}}
    many.lines[queue] = line
  end
  line.room = line.room - 1
  return line.room >= 0
end

-- Where a task that may run now stands: rung for while there is room, else in line.
local function admit(asked, most)
  local of = asked.kind
  local queue = of.queue
  if has_room(queue, most) then
    local bell = {TENANT, TASK_ID, of.agent, queue, of.priority, asked.traceparent or ''}
    return NOW + RESEND, send(bell, MEMBER)
  elseif many then
    join_line(many.lines[queue], queue, 9 - tonumber(of.priority))
  else
    stand_in_line(queue, tonumber(of.priority), MEMBER)
  end
  return NOW + LINE_PATIENCE, nil
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
    asked.limits = conversation_limits(talk) or asked.limits -- of one that has begun anew just now
  end
  write_places(asked, ordinal)
  count_in(asked.kind.agent, asked.named)
  local held = asked.after and hold_until_ended(asked.after) or 0
  local waits = held > 0 or due > NOW
  local instant, bell = place_of(asked, due, waits, most)
  local begins = due == NOW and AT or text(due)
  write_record(asked, ordinal, begins, AT,
    rare_facts(asked, bell and AT, held, expires, deadline, talk))
  write_first_events(asked, AT)
  -- The sweeper looks at it at this instant, or earlier when a limit passes.
  instant = math.min(instant, expires or instant, deadline or instant)
  if instant ~= looked_for then looked_for, looked_for_text = instant, text(instant) end
  enter(DUE, looked_for_text, MEMBER)
  if bell and not bell[7] then bells[#bells + 1] = bell end
  if head and rule == 'steer' and may_steer(head, waits) then
    redis.call('HSET', RECORD, 'steers', head, 'listings', table.concat(listings_of(asked), ' '))
    redis.call('RPUSH', RECORDS .. head .. ':inbox', TASK_ID)
    return answer('steered', head, bells)
  end
  return #bells == 0 and begins or {'created', TASK_ID, {begins}, bells}
end

-- Whether its agent was ever announced; where none was, any name will do.
local function is_known(of)
  if of.known == nil then
    local agents = FLEET .. 'agents'
    of.known = redis.call('HEXISTS', agents, of.agent) == 1 or redis.call('HLEN', agents) == 0
  end
  return of.known
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
  if not is_known(asked.kind) then
    return {'agent_not_found', TASK_ID, {}, {}}
  end
  local conversation = asked.conversation
  local talk = conversation and conversation_keys(TENANT, conversation)
  if talk and redis.call('EXISTS', talk[6]) == 1 then
    return {'conversation_deleted', TASK_ID, {}, {}}
  end
  if talk then
    -- Should the conversation expire before the turn ends, it begins anew as it was. Read before
    -- the first write: a place in line without a record would stand before all later turns.
    asked.limits = conversation_limits(talk) or asked.limits
  end
  local head = talk and next_turn(conversation)
  if head and asked.when_busy == 'reject' then
    return {'busy', TASK_ID, {}, {}}
  end
  return create(asked, talk, head, most)
end

local requests, answers = {next_request(TASK_ID)}, {}
while place < #ARGV do
  requests[#requests + 1] = next_request(take())
end
if #requests > 1 then many = new_many({}) end
look(requests)

local function accept_one(asked)
  return accept(asked, #requests)
end

-- One that cannot be accepted leaves the others where they stand: what has a record and no
-- place would never begin, and never go.
local problem = nil
for i, asked in ipairs(requests) do
  if many and not gathered then gather() end
  answers[i] = answer_of(accept_one, asked)
  problem = problem or answers[i].err
end
settle_lines()
return problem and {err = problem} or {AT, answers}
