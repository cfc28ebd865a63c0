-- Takes a message out of the log; tool calls and their results go together.
-- KEYS: append_keys. ARGV: names this call (so that a repeat is known), seq.
-- Returns {'ok', the head's fields and values} or {'not_found'} or {'no_message'}.
-- Works on a full Redis: the first write frees.
local facts = redis.call('HMGET', KEYS[1], 'config', 'deletion', 'user_seq', 'summary_seq')
if not facts[1] then return {'not_found'} end
if facts[2] == ARGV[1] then return {'ok', redis.call('HGETALL', KEYS[1])} end
local named = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1]
if not named then return {'no_message'} end

local function walk(command, from, visit)
  conversation_walk(KEYS, command, from, 3, visit)
end

local function role(entry) return string.match(entry[2][10], '^{"role":"(%a+)"') end

local first
walk('XREVRANGE', named[1], function(entry)
  first = entry
  return role(entry) ~= 'tool'
end)
local group, is_last = {}, true
walk('XRANGE', first[1], function(entry)
  if #group > 0 and role(entry) ~= 'tool' then
    is_last = false
    return true
  end
  group[#group + 1] = entry
end)

local function newest(is_wanted)
  local found = 0
  walk('XREVRANGE', '+', function(entry)
    if is_wanted(entry) then found = string.match(entry[1], '^%d+') end
    return found ~= 0
  end)
  return found
end

local turns = {}
for _, entry in ipairs(group) do
  local seq, turn, client = string.match(entry[1], '^%d+'), entry[2][2], entry[2][4]
  redis.call('XDEL', KEYS[2], entry[1])
  redis.call('ZREM', KEYS[5], seq)
  if client ~= '' then redis.call('HDEL', KEYS[3], 'client:' .. client) end
  if turn ~= '' then turns[turn] = true end
end
for turn in pairs(turns) do
  local from = redis.call('HGET', KEYS[3], 'turn:' .. turn)
  if from and #conversation_stored_turn(KEYS, turn, from) == 0 then
    redis.call('HDEL', KEYS[3], 'turn:' .. turn)
  end
end
if is_last then
  -- The calls before the last message may stand at the end again.
  redis.call('DEL', KEYS[4])
  local answered = {}
  walk('XREVRANGE', '+', function(entry)
    local message = cjson.decode(entry[2][10])
    if message.role == 'tool' then
      answered[message.tool_call_id] = true
      return false
    end
    for _, call in ipairs(message.tool_calls or {}) do
      if not answered[call.id] then redis.call('SADD', KEYS[4], call.id) end
    end
    return true
  end)
end
local gone = string.match(first[1], '^%d+')
if facts[3] == gone then
  redis.call('HSET', KEYS[1], 'user_seq',
    newest(function(entry) return role(entry) == 'user' end))
elseif facts[4] == gone then
  redis.call('HSET', KEYS[1], 'summary_seq', newest(conversation_is_summary))
end
redis.call('HINCRBY', KEYS[1], 'deleted', #group)
redis.call('HSET', KEYS[1], 'deletion', ARGV[1])
conversation_touch(KEYS, conversation_now_ms())
return {'ok', redis.call('HGETALL', KEYS[1])}
