-- What every task script shares; it changes nothing by itself. Stands after the
-- functions of the conversations' append, the names of the keys that all tasks share
-- (redis_task_scripts.py), counters.lua and basics.lua.
--
-- KEYS  1 record (hash); beside it stand its event log (stream), its journal (hash)
--       and what it has spent (hash, budget.lua)
-- ARGV  1 tenant   2 task id   3 resend delay   4 longest resend delay
--       5 how long an ended task is kept (delays in milliseconds)
--
-- User JSON is opaque text here: cjson would turn [] into {}.

local RECORD = KEYS[1]
local LOG, JOURNAL = RECORD .. ':events', RECORD .. ':journal'
local TENANT, TASK_ID = ARGV[1], ARGV[2]
local RECORDS = ROOT .. TENANT .. ':task:'
local TURNS, LISTING = ROOT .. TENANT .. ':turns:', ROOT .. TENANT .. ':tasks:status:'
local MEMBER = TENANT .. ' ' .. TASK_ID
local RESEND, MAX_RESEND, KEEP = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

-- What a record means; another number is for workers of another release to run. Raised
-- when an older release would do harm with a record, not when a field is added.
local SCHEMA = '1'

local NO_JOURNAL = 2 -- of the keys that a task may have, record and log alone (ending.lua)

-- Listings outlive a record by lazy removal; its own expiry is only the backstop.
local BACKSTOP = 86400000

-- What stands in a list from one place to another, or to its end.
local function from_place(list, first, last)
  local part = {}
  for i = first, last or #list do
    part[#part + 1] = list[i]
  end
  return part
end

local function get(name)
  return redis.call('HGET', RECORD, name) or nil
end

local function get_number(name)
  return tonumber(redis.call('HGET', RECORD, name) or nil)
end

-- Whether there is a record; something else in its place is none.
local function is_record()
  return redis.call('TYPE', RECORD).ok == 'hash'
end

-- Turns to another task of the tenant: what follows reads and changes that one.
local function turn_to(id)
  RECORD, TASK_ID, MEMBER = RECORDS .. id, id, TENANT .. ' ' .. id
  LOG, JOURNAL = RECORD .. ':events', RECORD .. ':journal'
end

-- Whether the last claim was the one that this lease names ('<fence> <token>'), and what
-- became of it. The fence alone would do, did no Redis come back with an older file and
-- give the same one out again.
local function is_lease(lease, attempt, token)
  return (attempt or '') .. ' ' .. (token or '') == lease
end

local function was_claimed_by(lease, status)
  local facts = redis.call('HMGET', RECORD, 'status', 'attempt', 'claim_token')
  return facts[1] == status and is_lease(lease, facts[2], facts[3])
end

local function holds_lease(lease)
  return was_claimed_by(lease, 'running')
end

local function fence_of(lease)
  return string.match(lease, '^%d+')
end

-- Where something else was written in place of the log, that is put aside and the log
-- begins anew: a task must be able to end.
local function log_event(...)
  local answer = redis.pcall('XADD', LOG, ...)
  local problem = type(answer) == 'table' and answer.err
  if problem and (string.find(problem, 'WRONGTYPE') or string.find(problem, 'equal or smaller')) then
    redis.call('RENAME', LOG, LOG .. ':foreign')
    redis.call('PEXPIRE', LOG .. ':foreign', text(KEEP))
    redis.call('XADD', LOG, ...)
  end
end

-- Adds an event whose number is written along with what it tells.
local function append_numbered(number, kind, attempt, data)
  log_event('0-' .. number, 'type', kind, 'attempt', attempt, 'at_ms', AT, 'data', data)
end

-- Adds the events whose types and data stand in `list` from `first` on.
local function append_listed(list, first)
  local count = (#list - first + 1) / 2
  if count == 0 then
    return
  end
  local number = redis.call('HINCRBY', RECORD, 'events', text(count)) - count
  local attempt = get('attempt')
  for i = first, #list, 2 do
    number = number + 1
    append_numbered(text(number), list[i], attempt, list[i + 1])
  end
end

local function append_event(kind, data)
  append_listed({kind, data}, 1)
end

local function append_events(first)
  append_listed(ARGV, first)
end

-- Tells a finished step's entry from none, a start mark ('?') and a decision ('!').
local function is_finished(entry)
  return entry and string.match(entry, '^%d') ~= nil
end

-- Marks a step as begun by the lease ARGV[6], unless it is finished or was
-- begun by it. Returns '1' when an earlier attempt had begun it, else '0'.
local function begin_step(key, is_completion, start)
  local stored = redis.call('HGET', JOURNAL, key)
  local begun_by = stored and string.match(stored, '^%? %d+ (%d+) ')
  local fence = fence_of(ARGV[6])
  if is_finished(stored) or begun_by == fence then
    return '0'
  end
  redis.call('HSET', JOURNAL, key, '? ' .. AT .. ' ' .. fence .. ' ' .. start)
  if begun_by and is_completion == '1' then
    redis.call('HINCRBY', RECORD, 'maybe_paid', 1)
  end
  return begun_by and '1' or '0'
end

-- Adds to the time in `running`, which begins anew where it is no number any more: a run
-- must be able to end its attempt. Returns the sum.
local function add_running(ms)
  local sum = redis.pcall('HINCRBY', RECORD, 'running_ms', ms)
  if type(sum) == 'number' then
    return sum
  end
  redis.call('HSET', RECORD, 'running_ms', ms)
  return tonumber(ms)
end

-- Refuses a record whose place in a listing is none, or whose agent is no name in a count:
-- those of all that are gathered with it would be lost.
local function check_listed(ordinal, agent)
  local most_digits = 16 -- of an exact double
  assert(string.find(ordinal or '', '^%d+$') and #ordinal <= most_digits,
    'the record has lost its ordinal')
  assert(string.find(agent or '', '^[%w_-]+$'), 'the record has lost its agent')
end

-- Comes before a transition's other writes, so that a refused one has changed nothing;
-- its own first write is one that a full Redis refuses. `facts`, names and values, are
-- written along with the status; who has read the three that stand behind gives them.
local function move(wanted, facts, status, ordinal, agent)
  if not status then
    status, ordinal, agent = unpack(
      redis.call('HMGET', RECORD, 'status', 'ordinal', 'agent'))
  end
  assert(TRANSITIONS[status][wanted], 'no transition ' .. status .. ' to ' .. wanted)
  check_listed(ordinal, agent)
  redis.call('HSET', RECORD, 'status', wanted, unpack(facts or {}))
  enter(LISTING .. wanted, ordinal, TASK_ID)
  leave(LISTING .. status, TASK_ID)
  count_unfinished(status, agent, -1)
  if next(TRANSITIONS[wanted]) then
    count_unfinished(wanted, agent, 1)
  end
end

local function waited_for()
  local reason = get('pending_reason')
  return reason and ' (' .. reason .. ')' or ''
end

-- Why the task may no longer begin, and what it waited for; or nil.
local function overdue(attempt, expires, deadline)
  expires, deadline = tonumber(expires or nil), tonumber(deadline or nil)
  if expires and expires <= NOW and attempt == '0' then
    return 'no worker began the task within its expires limit' .. waited_for()
      .. '; add workers or raise expires'
  end
  if deadline and deadline <= NOW then
    return 'the deadline passed before the task had ended' .. waited_for() .. '; raise deadline'
  end
end
