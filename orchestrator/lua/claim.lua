-- Begins an attempt: pending and due -> running with the next fence and a lease.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 worker, 7 lease (ms), 8 token of this call,
--       9 delay before an unserved task is rung again (ms), 10 key of the first step and
--       11 its start (JSON), 12 for how many of the agents it is, 13.. agents served, those
--       first
-- Returns {'claimed', record, journal with the mark of that step, how many messages wait
-- for the run, doorbells, whether somebody follows the run (told with that mark alone)},
-- with a conversation also what conversation_window does, or 'unread', or {refusal
-- reason}. The same token finds its claim again when the first answer was lost.

local status, schema, due, agent, ordinal, suspect, conversation, queue, held, attempt, events,
  started, expires, deadline = unpack(redis.call('HMGET', RECORD, 'status', 'schema', 'due_ms',
  'agent', 'ordinal', 'suspect', 'conversation', 'queue', 'held', 'attempt', 'events',
  'started_ms', 'expires_at_ms', 'deadline_at_ms'))

-- Puts the conversation's end off and reads it.
local function read_conversation()
  local keys = conversation_keys(TENANT, conversation)
  conversation_keep(keys)
  return conversation_window(keys)
end

-- What stands in place of a conversation is its reader's to meet, not the claim's.
local function claimed(journal, bells, mail, watched)
  local answer = {'claimed', redis.call('HGETALL', RECORD), journal, mail, bells, watched}
  if conversation then
    local was_read, window = pcall(read_conversation)
    if was_read then answer[7] = window else answer[7] = 'unread' end
  end
  return answer
end

local function mail()
  return conversation and redis.call('LLEN', RECORD .. ':inbox') or 0
end

local function is_watched()
  return redis.call('EXISTS', RECORD .. ':watched')
end

if not status then
  redis.call('ZREM', DUE, MEMBER)
  return {'unknown'}
elseif status == 'running' then
  if get('claim_token') == ARGV[8] then
    return claimed(redis.call('HGETALL', JOURNAL), {}, mail(), is_watched())
  end
  take_message(queue)
  return {'leased'}
end
take_message(queue)
if status == 'waiting' then
  return {'waiting'}
elseif status ~= 'pending' then
  return {'ended'}
end

-- Written by a release that means something else by it: left to workers of that one.
-- Its limits are theirs to judge too, so the next look does not come earlier for them.
if schema ~= SCHEMA then
  redis.call('ZADD', DUE, text(NOW + RESEND), MEMBER)
  return {'unknown_schema'}
end

-- A refusal carries no doorbells; who was not rung for here is by the next sweep.
local function fail(code, message)
  local unrung = {}
  for _, bell in ipairs(end_with_failure('failed', code, message)) do
    if not bell[7] then
      unrung[#unrung + 1] = {bell[1] .. ' ' .. bell[2], bell[4]}
    end
  end
  leave_to_sweep(unrung)
end

local reason = overdue(attempt, expires, deadline)
if reason then
  fail('expired', reason)
  return {'expired'}
end
local journal = redis.pcall('HGETALL', JOURNAL)
if journal.err then
  fail('damaged', 'what stands in place of its journal is a ' .. redis.call('TYPE', JOURNAL).ok
    .. ', so nobody knows what it has done; find who writes to our keys, then submit again')
  return {'ended'}
end
if tonumber(due) > NOW or (tonumber(held or nil) or 0) > 0 then
  return {'not_due'}
end
if conversation and next_turn(conversation) ~= TASK_ID then
  return {'not_next_turn'}
end

local served
for i = 13, #ARGV do
  served = served or ARGV[i] == agent and i - 12
end
if not served then
  redis.call('HSET', RECORD, 'pending_reason',
    'the worker that was asked does not serve agent ' .. agent)
  look_at(NOW + tonumber(ARGV[9]))
  return {'unserved'}
end

if suspect == PRIME and not has_berth(ARGV[6]) then
  stand_back()
  look_at(NOW + tonumber(ARGV[9]))
  return {'suspect'}
end

local lease_until = text(NOW + tonumber(ARGV[7]))
local number = text((tonumber(events or nil) or 0) + 1)
attempt = tonumber(attempt) + 1
move('running', {'attempt', text(attempt), 'worker', ARGV[6], 'claim_token', ARGV[8],
  'claimed_ms', text(NOW), 'lease_until_ms', lease_until,
  'started_ms', started or text(NOW), 'events', number}, status, ordinal, agent)
count_time('wait', agent, NOW - tonumber(due))
leave_lines(queue, suspect)
redis.call('ZADD', LEASES, lease_until, MEMBER)
append_numbered(number, 'task.started', text(attempt),
  cjson.encode({worker = ARGV[6], attempt = attempt}))
if suspect then
  take_aboard(ARGV[6])
end
local letters, watched = mail(), 0
if attempt == 1 and letters == 0 and served <= tonumber(ARGV[12]) then
  local mark = '? ' .. text(NOW) .. ' 1 ' .. ARGV[11]
  redis.call('HSET', JOURNAL, ARGV[10], mark)
  journal[#journal + 1], journal[#journal + 2] = ARGV[10], mark
  watched = is_watched()
end
return claimed(journal, refill(queue), letters, watched)
