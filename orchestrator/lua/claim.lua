-- Begins attempts: pending and due -> running with the next fence and a lease. Each task is
-- for itself; what many share is looked at and written once.
--
-- KEYS  task.lua's (of no task)
-- ARGV  task.lua's (of no task), then 6 worker, 7 lease (ms), 8 delay before an unserved
--       task is rung again (ms), 9 key of the first step and 10 its start (JSON), 11 for how
--       many of the agents it is, 12 how many agents are served, then these, those first;
--       then of each task its id and a token of this claim
-- Returns for each {'claimed', record, journal with the mark of that step, how many messages
-- wait for the run, doorbells, whether somebody follows the run (told with that mark alone)},
-- with a conversation also what conversation_window does, or 'unread', or {refusal
-- reason}, or an error, or {'alone'}: it was not looked at, since what the tasks before it
-- hold is enough for one call. The same token finds its claim again when the first answer was
-- lost.

local WORKER, LEASE_UNTIL = ARGV[6], text(NOW + tonumber(ARGV[7]))
local UNSERVED_UNTIL, LAST_SERVED = NOW + tonumber(ARGV[8]), 12 + tonumber(ARGV[12])
local MOST_BYTES = 1048576 -- of an answer: what comes after is asked for alone
local served, has_journals, size = {}, true, 0

-- The record by name, and as a flat list without what a running task has not.
local function read_record()
  local flat, facts, kept, bytes = redis.call('HGETALL', RECORD), {}, {}, 0
  for i = 1, #flat, 2 do
    local name, value = flat[i], flat[i + 1]
    facts[name], bytes = value, bytes + #value
    if name ~= 'due_ms' and name ~= 'pending_reason' then
      kept[#kept + 1], kept[#kept + 2] = name, value
    end
  end
  size = size + bytes
  return facts, kept
end

-- Puts the conversation's end off and reads it.
local function read_conversation(conversation)
  local keys = conversation_keys(TENANT, conversation)
  conversation_keep(keys)
  return conversation_window(keys)
end

local function note_size(part)
  if type(part) == 'string' then
    size = size + #part
  elseif type(part) == 'table' then
    for _, each in ipairs(part) do
      note_size(each)
    end
  end
end

-- What stands in place of a conversation is its reader's to meet, not the claim's.
local function claimed(conversation, record, journal, mail, watched)
  local answer = {'claimed', record, journal, mail, {}, watched}
  note_size(journal)
  if conversation then
    local was_read, window = pcall(read_conversation, conversation)
    if was_read then answer[7] = window else answer[7] = 'unread' end
    note_size(window)
  end
  return answer
end

local function mail(conversation)
  return conversation and redis.call('LLEN', RECORD .. ':inbox') or 0
end

local function is_watched()
  return redis.call('EXISTS', RECORD .. ':watched')
end

-- A refusal carries no doorbells; who was not rung for here is by the next sweep.
local function fail(code, message)
  local unrung = {}
  settle()
  for _, bell in ipairs(end_with_failure('failed', code, message)) do
    if not bell[7] then
      unrung[#unrung + 1] = {bell[1] .. ' ' .. bell[2], bell[4]}
    end
  end
  leave_to_sweep(unrung)
end

-- Leaves the task to a later look.
local function put_off(reason)
  settle()
  look_at(UNSERVED_UNTIL)
  return {reason}
end

local function run(facts, record, journal, place)
  local status, agent, suspect = facts.status, facts.agent, facts.suspect
  local number = text((tonumber(facts.events) or 0) + 1)
  local attempt = tonumber(facts.attempt) + 1
  if suspect then
    settle()
  end
  local changes = {'attempt', text(attempt), 'worker', WORKER, 'claim_token', facts.token,
    'claimed_ms', AT, 'lease_until_ms', LEASE_UNTIL,
    'started_ms', facts.started_ms or AT, 'events', number}
  move('running', changes, status, facts.ordinal, agent)
  join(record, changes)
  join(record, {'status', 'running'})
  count_time('wait', agent, NOW - tonumber(facts.due_ms))
  leave_lines(facts.queue, suspect)
  enter(LEASES, LEASE_UNTIL, MEMBER)
  append_numbered(number, 'task.started', text(attempt),
    cjson.encode({worker = WORKER, attempt = attempt}))
  if suspect then
    take_aboard(WORKER)
  end
  local letters, watched = mail(facts.conversation), 0
  if attempt == 1 and letters == 0 and place <= tonumber(ARGV[11]) then
    local mark = '? ' .. AT .. ' 1 ' .. ARGV[10]
    redis.call('HSET', JOURNAL, ARGV[9], mark)
    journal[#journal + 1], journal[#journal + 2] = ARGV[9], mark
    watched = is_watched()
  end
  return claimed(facts.conversation, record, journal, letters, watched)
end

local function claim(task)
  turn_to(task[1])
  local facts, record = read_record()
  local status, conversation = facts.status, facts.conversation
  if not status then
    leave(DUE, MEMBER)
    return {'unknown'}
  elseif status == 'running' then
    if facts.claim_token == task[2] then
      return claimed(conversation, record, redis.call('HGETALL', JOURNAL), mail(conversation),
        is_watched())
    end
    take_message(facts.queue, facts.overtaken)
    return {'leased'}
  end
  take_message(facts.queue, facts.overtaken)
  if status == 'waiting' then
    return {'waiting'}
  elseif status ~= 'pending' then
    return {'ended'}
  end

  -- Written by a release that means something else by it: left to workers of that one.
  -- Its limits are theirs to judge too, so the next look does not come earlier for them.
  if facts.schema ~= SCHEMA then
    enter(DUE, text(NOW + RESEND), MEMBER)
    return {'unknown_schema'}
  end

  local reason = overdue(facts.attempt, facts.expires_at_ms, facts.deadline_at_ms)
  if reason then
    fail('expired', reason)
    return {'expired'}
  end
  local journal = has_journals and redis.pcall('HGETALL', JOURNAL) or {}
  if journal.err then
    fail('damaged', 'what stands in place of its journal is a ' .. redis.call('TYPE', JOURNAL).ok
      .. ', so nobody knows what it has done; find who writes to our keys, then submit again')
    return {'ended'}
  end
  if tonumber(facts.due_ms) > NOW or (tonumber(facts.held) or 0) > 0 then
    return {'not_due'}
  end
  if conversation and next_turn(conversation) ~= TASK_ID then
    return {'not_next_turn'}
  end

  local place = served[facts.agent]
  if not place then
    redis.call('HSET', RECORD, 'pending_reason',
      'the worker that was asked does not serve agent ' .. facts.agent)
    return put_off('unserved')
  end
  if facts.suspect == PRIME and not has_berth(WORKER) then
    stand_back()
    return put_off('suspect')
  end
  facts.token = task[2]
  return run(facts, record, journal, place), facts.queue
end

local function claim_of(task)
  local answer, queue = claim(task)
  task.queue = queue
  return answer
end

local tasks, answers, journals, last = {}, {}, {}, {}
for i = LAST_SERVED, 13, -1 do
  served[ARGV[i]] = i - 12
end
for i = LAST_SERVED + 1, #ARGV, 2 do
  tasks[#tasks + 1] = {ARGV[i], ARGV[i + 1]}
  journals[#journals + 1] = RECORDS .. ARGV[i] .. ':journal'
end
has_journals = redis.call('EXISTS', unpack(journals)) > 0
for i, task in ipairs(tasks) do
  if not gathered then
    gather()
  end
  answers[i] = size > MOST_BYTES and {'alone'} or answer_of(claim_of, task)
  if task.queue then
    last[task.queue] = i
  end
end
settle()
for queue, i in pairs(last) do
  answers[i][5] = refill(queue)
end
return answers
