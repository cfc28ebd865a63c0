-- Which tasks are rung for, and in which order; comes after task.lua. Nothing here
-- knows how a run ends.
--
-- KEYS and ARGV are task.lua's.
--
-- Per queue at most window() messages are outstanding. The rest stands in line:
--   _fleet:rung:<queue>      zset, member -> band and number of its message
--   _fleet:ready:<queue>     zset, member -> band and share of its tenant
--   _fleet:shares:<queue>    hash, the shares given out, while somebody is in line
--   _fleet:suspects:<queue>  zset, prime suspects in line -> since when
--   _fleet:aloud:<queue>     zset, prime suspects rung for, running or just refused -> until when
--   _fleet:followed          zset, ended tasks for which more wait than one call offers -> the end
--   _fleet:queues            set of queues where somebody may be in line
--   _fleet:flow              hash, <queue> <fact>: how its messages have moved
-- A band holds one urgency; 0 is the most urgent one. Within it messages are FIFO, and
-- more urgent ones are taken first: one that was taken proves all earlier ones of its band
-- and of more urgent ones taken or lost.

local FLEET = ROOT .. '_fleet:'
local BAND = 281474976710656 -- 2^48: twenty bands and their numbers are exact doubles
local DIGITS = {[0] = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'}
local FOLLOWED = FLEET .. 'followed'
local REFILL_AT_ONCE = 64
local WOKEN_AT_ONCE = 200
local SUSPECT_PATIENCE = 60000 -- how long a message for a prime suspect is believed
local REFUSED_PATIENCE = 1000
local LINE_PATIENCE = 3600000 -- who stands in line is reached by refills, not by a look
local SUSPECT, PRIME = '1', '2' -- degrees of suspicion, see suspects.lua

local function join(bells, more)
  for _, bell in ipairs(more) do
    bells[#bells + 1] = bell
  end
  return bells
end

local function in_fleet(kind, queue)
  return FLEET .. kind .. ':' .. queue
end

local function flow(queue, fact)
  return tonumber(redis.call('HGET', FLEET .. 'flow', queue .. ' ' .. fact) or nil) or 0
end

local function set_flow(queue, fact, value)
  redis.call('HSET', FLEET .. 'flow', queue .. ' ' .. fact, text(value))
end

-- The record that a member names. What is no name of ours has none, and leaves the lines like
-- a task that is no more: an error here would keep all others of the queue from being rung for.
local function record_of(member)
  local tenant, id = names_in(member)
  return ROOT .. (tenant or '') .. ':task:' .. (id or ''), tenant, id
end

-- A bell: tenant, task, agent, queue, urgency, trace context or '', 'rung' when it was.
-- Rings by itself where the broker is this Redis: bells are then marked as rung, and the
-- caller has nothing to send. None of the facts of `doorbell_message` has a character that
-- JSON would escape. A queue's key may hold something else: the change that rings must not be
-- cut in two.
local function sound_all(bells)
  if not RINGS then
    return
  end
  local messages, by_key = {}, {}
  for _, bell in ipairs(bells) do
    local tenant, id, agent, queue, priority, trace = unpack(bell, 1, 6)
    local urgency = 9 - tonumber(priority)
    local step = urgency - urgency % 3
    local key = step == 0 and queue or queue .. '\6\22' .. DIGITS[step]
    if not messages[key] then
      messages[key], by_key[key] = {}, {}
    end
    local place = #messages[key] + 1
    by_key[key][place] = bell
    messages[key][place] = doorbell_message(tenant, id, agent, queue, DIGITS[urgency],
      CLOCK[1] .. '-' .. CLOCK[2] .. '-' .. id, trace == '' and 'null' or '"' .. trace .. '"')
  end
  for key, list in pairs(messages) do
    if type(redis.pcall('LPUSH', key, unpack(list))) == 'number' then
      for _, bell in ipairs(by_key[key]) do
        bell[7] = 'rung'
      end
    end
  end
end

local function sound(bell)
  sound_all({bell})
  return bell
end

-- When the sweeper looks at a task: at this instant, or earlier when a limit passes.
local function instant_by(instant, attempt, expires, deadline)
  if attempt == '0' then
    instant = math.min(instant, tonumber(expires or nil) or instant)
  end
  return text(math.min(instant, tonumber(deadline or nil) or instant))
end

local function look_at(instant, member)
  local record = member and record_of(member) or RECORD
  local limits = redis.call('HMGET', record, 'attempt', 'expires_at_ms', 'deadline_at_ms')
  redis.call('ZADD', DUE, instant_by(instant, unpack(limits)), member or MEMBER)
end

-- A run that has begun goes on before others of its priority begin. Celery keeps three
-- priorities in one list.
local RESUMES = 3
local function urgency(priority, resumes)
  return math.min(9, tonumber(priority) + (resumes and RESUMES or 0))
end

local function doorbell(id)
  local facts = redis.call('HMGET', RECORDS .. id,
    'agent', 'queue', 'priority', 'resumes', 'traceparent')
  return sound({TENANT, id, facts[1], facts[2], text(urgency(facts[3], facts[4])),
    facts[5] or ''})
end

local function slots(queue)
  return tonumber(redis.call('HGET', FLEET .. 'slots', queue) or nil) or 0
end

local function window(queue)
  return math.max(DISPATCH_WINDOW, 4 * slots(queue))
end

local function room(queue)
  return window(queue) - redis.call('ZCARD', in_fleet('rung', queue))
end

-- Numbers the messages of doorbells of one queue, and sends them where that is ours to do.
local function send_all(bells, members)
  local queue, places = bells[1][4], {}
  local newest = redis.call('HINCRBY', FLEET .. 'flow', queue .. ' number', text(#bells))
  for i, bell in ipairs(bells) do
    local band, number = 9 - tonumber(bell[5]), newest - #bells + i
    places[2 * i - 1], places[2 * i] = text(band * BAND + number), members[i]
  end
  redis.call('ZADD', in_fleet('rung', queue), unpack(places))
  sound_all(bells)
end

local function send(bell, member)
  send_all({bell}, {member})
  return bell
end

-- The doorbell of a task, which may be another tenant's, if it may run, and when the sweeper
-- looks at it: both for the caller to send and to write.
local function bell_of(member)
  local record, tenant, id = record_of(member)
  local facts = redis.call('HMGET', record, 'status', 'due_ms', 'agent', 'queue', 'priority',
    'held', 'resumes', 'traceparent', 'attempt', 'expires_at_ms', 'deadline_at_ms')
  if facts[1] ~= 'pending' or tonumber(facts[2]) > NOW
    or (tonumber(facts[6] or nil) or 0) > 0 then
    return nil
  end
  local urgent = urgency(facts[5], facts[7])
  assert(facts[3] and facts[4] and DIGITS[urgent], 'the record has lost where it is to run')
  redis.call('HSET', record, 'rings', '1', 'rung_ms', AT)
  return {tenant, id, facts[3], facts[4], text(urgent), facts[8] or ''},
    instant_by(NOW + RESEND, facts[9], facts[10], facts[11])
end

local function ring(member)
  local bell, instant = bell_of(member)
  if not bell then
    return nil
  end
  redis.call('ZADD', DUE, instant, member)
  return send(bell, member)
end

-- Has the next sweep ring, where a caller cannot: {member, queue} of each.
local function leave_to_sweep(unrung)
  for _, each in ipairs(unrung) do
    redis.call('ZREM', in_fleet('rung', each[2]), each[1])
    redis.call('ZADD', DUE, AT, each[1])
  end
end

-- How many prime suspects a worker may run when this is one of them.
local function company_of(member)
  local company = redis.pcall('HGET', record_of(member), 'company')
  return type(company) == 'string' and tonumber(company) or 1
end

local function was_refused(aloud, member)
  local loud_until = redis.call('ZSCORE', aloud, member)
  return loud_until and tonumber(loud_until) <= NOW + REFUSED_PATIENCE
end

-- Forgets prime suspects of whom nothing more is to be expected: a message is believed for
-- a time, a run as long as its lease lives.
local function hush(aloud)
  local overdue = redis.call('ZRANGEBYSCORE', aloud, '-inf', AT,
    'LIMIT', 0, REFILL_AT_ONCE)
  for _, member in ipairs(overdue) do
    local lease_until = tonumber(redis.call('ZSCORE', LEASES, member) or nil) or 0
    if lease_until > NOW then
      redis.call('ZADD', aloud, text(lease_until), member)
    else
      redis.call('ZREM', aloud, member)
    end
  end
end

local function refill_suspects(queue, bells)
  local line, aloud = in_fleet('suspects', queue), in_fleet('aloud', queue)
  if redis.call('EXISTS', line) == 0 then
    return
  end
  hush(aloud)
  local workers = math.max(1, redis.call('ZCARD', FLEET .. 'workers'))
  local loud = redis.call('ZCARD', aloud)
  for _ = 1, REFILL_AT_ONCE do
    local member = redis.call('ZRANGE', line, 0, 0)[1]
    if not member or loud >= workers * company_of(member) or was_refused(aloud, member) then
      break
    end
    redis.call('ZREM', line, member)
    local is_read, bell = pcall(ring, member)
    if is_read and bell then
      loud = loud + redis.call('ZADD', aloud, text(NOW + SUSPECT_PATIENCE), member)
      bells[#bells + 1] = bell
    end
  end
end

-- Takes the first of a queue's line, at most so many; the shares given out go with the last.
local function first_in_line(queue, most)
  local shares, members, served = in_fleet('shares', queue), {}, {}
  local first = most > 0 and redis.call('ZPOPMIN', in_fleet('ready', queue), text(most)) or {}
  for i = 1, #first, 2 do
    local score = tonumber(first[i + 1])
    local band = math.floor(score / BAND)
    members[#members + 1], served[band] = first[i], score - band * BAND
  end
  if #members < most then
    redis.call('DEL', shares)
    return members
  end
  for band, share in pairs(served) do
    redis.call('HSET', shares, text(band), text(share))
  end
  return members
end

-- Rings for those in line while there is room; returns their doorbells. Reads what may be
-- gathered. One whose record is damaged must not take the others out of the line with it, nor
-- fail whoever made room; a sweep will meet it.
local function refill(queue)
  local bells, new, members, looks = {}, {}, {}, {}
  refill_suspects(queue, bells)
  for _, member in ipairs(first_in_line(queue, math.min(room(queue), REFILL_AT_ONCE))) do
    local is_read, bell, instant = pcall(bell_of, member)
    if is_read and bell and bell[4] == queue then
      local place = #new + 1
      new[place], members[place] = bell, member
      looks[2 * place - 1], looks[2 * place] = instant, member
    end
  end
  if #new > 0 then
    redis.call('ZADD', DUE, unpack(looks))
    send_all(new, members)
  end
  return join(bells, new)
end

-- The next share of the tenant in a band, and the field that keeps it. A tenant that comes
-- late begins where the served ones are.
local function next_share(queue, band)
  local shares, line = in_fleet('shares', queue), DIGITS[band]
  local field = line .. ' ' .. TENANT
  local given = redis.call('HMGET', shares, line, field)
  local served, share = tonumber(given[1] or nil) or 0, tonumber(given[2] or nil) or 0
  return math.max(served, share) + 1, field
end

-- Puts a task in line: by urgency, then by how many its tenant has there, then by
-- acceptance.
local function stand_in_line(queue, urgent, member)
  local band = 9 - urgent
  local share, field = next_share(queue, band)
  redis.call('HSET', in_fleet('shares', queue), field, text(share))
  redis.call('ZADD', in_fleet('ready', queue), text(band * BAND + share), member)
end

-- Lets a pending, due task of this tenant be rung for: now when there is room. A task
-- whose message is out already gets the same doorbell again.
local function offer(id)
  local record = RECORDS .. id
  local member = TENANT .. ' ' .. id
  local facts = redis.call('HMGET', record, 'queue', 'priority', 'suspect', 'resumes')
  local queue = facts[1]
  if redis.call('ZSCORE', in_fleet('rung', queue), member) then
    return {doorbell(id)}
  end
  redis.call('SADD', FLEET .. 'queues', queue)
  look_at(NOW + LINE_PATIENCE, member)
  if facts[3] == PRIME then
    redis.call('ZADD', in_fleet('suspects', queue), 'NX', AT, member)
    return refill(queue)
  end
  local ready = in_fleet('ready', queue)
  if redis.call('EXISTS', ready) == 0 and room(queue) > 0 then
    return {ring(member)}
  end
  if not redis.call('ZSCORE', ready, member) then
    stand_in_line(queue, urgency(facts[2], facts[4]), member)
  end
  return refill(queue)
end

local function next_turn(conversation)
  return redis.call('ZRANGE', TURNS .. conversation, 0, 0)[1]
end

local function is_next_turn()
  local conversation = get('conversation')
  return not conversation or next_turn(conversation) == TASK_ID
end

local function is_held()
  return (get_number('held') or 0) > 0
end

-- A task that a task waited for has ended: offers it if it waited for nothing else.
local function wake(id)
  local record = RECORDS .. id
  local facts = redis.call('HMGET', record, 'status', 'due_ms', 'conversation')
  if facts[1] ~= 'pending' or redis.call('HINCRBY', record, 'held', -1) ~= 0 then
    return {}
  end
  redis.call('HDEL', record, 'pending_reason')
  if tonumber(facts[2]) > NOW then
    look_at(tonumber(facts[2]), TENANT .. ' ' .. id)
  elseif not facts[3] or next_turn(facts[3]) == id then
    return offer(id)
  end
  return {}
end

-- The task has ended: offers those that waited for nothing else, of many some. The sweep
-- offers the others: Redis serves others between two calls. One whose record is damaged
-- must keep neither them waiting nor the task from its end.
local function wake_followers()
  local bells, waiting = {}, RECORD .. ':then'
  local followers = redis.call('SRANDMEMBER', waiting, text(WOKEN_AT_ONCE))
  for _, id in ipairs(followers) do
    local was_read, rung = pcall(wake, id)
    if was_read then join(bells, rung) end
  end
  if #followers > 0 then
    redis.call('SREM', waiting, unpack(followers))
  end
  if #followers == WOKEN_AT_ONCE and redis.call('EXISTS', waiting) == 1 then
    redis.call('ZADD', FOLLOWED, AT, MEMBER)
  end
  return bells
end

-- Makes a pending task due: offered now, or later by the sweeper.
local function make_due(delay)
  redis.call('HSET', RECORD, 'due_ms', text(NOW + delay), 'rings', '0')
  if delay > 0 or is_held() or not is_next_turn() then
    look_at(NOW + (delay > 0 and delay or MAX_RESEND))
    return {}
  end
  return offer(TASK_ID)
end

-- The task, which is not running, leaves the lines and is due for nothing; a message of it
-- may still be outstanding. Only prime suspects stand in lines of their own.
local function leave_lines(queue, degree)
  leave(DUE, MEMBER)
  redis.call('HDEL', RECORD, 'due_ms', 'pending_reason')
  leave(in_fleet('ready', queue), MEMBER)
  if degree == PRIME then
    leave(in_fleet('suspects', queue), MEMBER)
    leave(in_fleet('aloud', queue), MEMBER)
  end
end

-- The task runs no more. While it did, it stood in no line and was due for nothing.
local function leave_lease()
  leave(LEASES, MEMBER)
end

-- Offers the conversation's next turn.
local function wake_next_turn()
  local conversation = get('conversation')
  local id = conversation and next_turn(conversation)
  if not id or id == TASK_ID then
    return {}
  end
  local facts = redis.call('HMGET', RECORDS .. id, 'status', 'due_ms', 'held')
  if facts[1] ~= 'pending' or tonumber(facts[2]) > NOW
    or (tonumber(facts[3] or nil) or 0) > 0 then
    return {}
  end
  return offer(id)
end
