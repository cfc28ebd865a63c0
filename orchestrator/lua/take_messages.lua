-- Takes the messages that were sent to a run and journals them as one step; the tasks
-- that brought them are no more, and their ids and keys lead to the run's task.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 lease, 7 step key
-- Returns {'taken', entry or nothing} or {'lost'}; an entry is as record_step's.

if not holds_lease(ARGV[6]) then
  return {'lost'}
end
local stored = redis.call('HGET', JOURNAL, ARGV[7])
if stored then
  return {'taken', stored}
end

local own, inbox = TASK_ID, RECORD .. ':inbox'
local joining, messages = {}, {}
for _, id in ipairs(redis.call('LRANGE', inbox, 0, -1)) do
  local names = {'status', 'steers', 'asked'}
  local facts = redis.call('HMGET', RECORDS .. id, unpack(names))
  if facts[1] == 'pending' and facts[2] == own then
    joining[#joining + 1], messages[#messages + 1] = id, facts[3]
  end
end
if #joining == 0 then
  redis.call('DEL', inbox)
  return {'taken'}
end

local outcome = '[' .. table.concat(messages, ',') .. ']'
local step = '{"key":' .. cjson.encode(ARGV[7]) .. ',"kind":"messages","outcome":'
  .. outcome .. ',"attempt":' .. fence_of(ARGV[6]) .. '}'
stored = text(redis.call('HINCRBY', RECORD, 'steps', 1)) .. ' ' .. AT .. ' ' .. step
redis.call('HSET', JOURNAL, ARGV[7], stored)
redis.call('HSET', RECORD, 'asked', get('asked') .. '\n' .. table.concat(messages, '\n'))
append_event('task.steered', '{"messages":' .. outcome .. '}')
redis.call('DEL', inbox)

-- Those that wait for a joining task's end wait for that of the run it joins.
local function hand_followers()
  for _, follower in ipairs(redis.call('SMEMBERS', RECORD .. ':then')) do
    if redis.call('SADD', RECORDS .. own .. ':then', follower) == 0 then
      redis.call('HINCRBY', RECORDS .. follower, 'held', -1)
    end
  end
end

local function become_part(id)
  turn_to(id)
  hand_followers()
  redis.call('SET', RECORD .. ':joined', own)
  local key, line = get('idempotency'), id
  local hash = key and string.match(redis.call('GET', key) or '', ' (%S+)$')
  if hash then
    redis.call('SET', key, own .. ' ' .. hash)
    line = id .. ' ' .. get('idempotency_ms') .. ' ' .. key
  end
  for listing in string.gmatch(get('listings'), '%S+') do
    redis.call('ZREM', listing, id)
  end
  redis.call('ZREM', LISTING .. 'pending', id)
  count_unfinished('pending', get('agent'), -1)
  redis.call('ZREM', TURNS .. get('conversation'), id)
  leave_lines(get('queue'), get('suspect'))
  redis.call('DEL', RECORD, LOG, JOURNAL, RECORD .. ':then')
  return line
end

local lines = {get('taken_in')}
for _, id in ipairs(joining) do
  lines[#lines + 1] = become_part(id)
end
redis.call('HSET', RECORDS .. own, 'taken_in', table.concat(lines, '\n'))
return {'taken', stored}
