-- Functions of which every script that adds to a conversation is composed.
--
-- keys (append_keys):
--   1 head       hash    config, metadata, max_messages, ttl_ms, created_ms,
--                        updated_ms, last_seq, user_seq, summary_seq, dropped,
--                        deleted, hidden, creator, deletion, branched
--   2 log        stream  entry <seq>-0: turn, client, at, start, message (this order)
--   3 seen       hash    client:<client id> -> seq, turn:<turn> -> its first seq
--   4 open       set     ids of the last assistant's calls that await a result
--   5 system     zset    seq of each message that the window keeps, scored by itself
--   6 tombstone  string  stays for a day after a delete
--   7 index      zset    conversation ids of the tenant in order of creation
-- argv (append_arguments): turn ('' by hand), expected last seq ('' any), config to
--   create with ('' do not create), its max_messages ('' all), its TTL in ms ('' none);
--   then for each message: role, client id ('' none), message JSON, kind ('kept' by the
--   window, 'summary' or ''), the call that it answers ('' none), how many calls it
--   makes, the id of each.
--
-- `start` marks the entries before which retention may cut; one whose turn has lost its
-- first message is cut before what is left of it. JSON is never decoded here.
-- The first write is one that a full Redis refuses, so it refuses the whole.

local CONVERSATION_PAGE = 100

local function conversation_messages(argv)
  local messages, at = {}, 6
  while argv[at] do
    local message = {
      role = argv[at], client = argv[at + 1], body = argv[at + 2],
      kind = argv[at + 3], answers = argv[at + 4], calls = {},
    }
    local count = tonumber(argv[at + 5])
    for i = 1, count do message.calls[i] = argv[at + 5 + i] end
    messages[#messages + 1] = message
    at = at + 6 + count
  end
  return messages
end

-- Moves the set of open calls past a message; tells what is wrong with its place, and
-- how many calls were open.
local function conversation_follow(open, message)
  if message.role == 'tool' then
    if not open[message.answers] then return 'orphan_result', 0 end
    open[message.answers] = nil
    return nil
  end
  local calls = 0
  for id in pairs(open) do
    calls, open[id] = calls + 1, nil
  end
  for _, id in ipairs(message.calls) do open[id] = true end
  return calls > 0 and 'unanswered_calls' or nil, calls
end

-- What an append would do: which messages are new, where each stands, what is wrong.
-- Writes nothing. `refused` is nil, or why: {'deleted'}, {'not_found'}, {'conflict'}, or
-- 'orphan_result' or 'unanswered_calls' with the place of the message (from 0) and how
-- many calls are open before it. A turn is never refused for the calls before it: it has
-- happened.
local function conversation_append_plan(keys, argv)
  local turn = argv[1]
  local plan = {turn = turn, fresh = {}, seqs = {}, open = {}}
  if redis.call('EXISTS', keys[6]) == 1 then
    plan.refused = {'deleted'}
    return plan
  end
  plan.exists = redis.call('EXISTS', keys[1]) == 1
  if argv[3] == '' and not plan.exists then
    plan.refused = {'not_found'}
    return plan
  end
  plan.turn_seq = turn ~= '' and redis.call('HGET', keys[3], 'turn:' .. turn)
  if plan.turn_seq then return plan end
  plan.last_seq = tonumber(redis.call('HGET', keys[1], 'last_seq') or 0)
  for _, id in ipairs(redis.call('SMEMBERS', keys[4])) do plan.open[id] = true end
  local seq, added, wrong_first = plan.last_seq, {}, nil
  for place, message in ipairs(conversation_messages(argv)) do
    local known = message.client ~= ''
      and (added[message.client]
        or redis.call('HGET', keys[3], 'client:' .. message.client))
    if not known then
      seq = seq + 1
      known, added[message.client], message.seq = seq, seq, seq
      plan.fresh[#plan.fresh + 1] = message
      local wrong, calls = conversation_follow(plan.open, message)
      wrong_first = wrong_first or wrong and {wrong, place - 1, calls}
    end
    plan.seqs[#plan.seqs + 1] = tonumber(known)
  end
  if #plan.fresh > 0 and argv[2] ~= '' and tonumber(argv[2]) ~= plan.last_seq then
    plan.refused = {'conflict'}
  elseif turn == '' then
    plan.refused = wrong_first
  end
  return plan
end

local function conversation_row(entry)
  local fields = entry[2]
  return {string.match(entry[1], '^%d+'), fields[2], fields[6], fields[10]}
end

local function conversation_is_summary(entry)
  local body = entry[2][10]
  return string.match(body, '^{"role":"system"') and cjson.decode(body).covers
end

-- Visits entries from one on, towards the new end (XRANGE) or the old, until one says that it
-- is the last. `count` is how many that mostly takes: each that is read is copied here whole.
-- `page` is how many are then read at once.
local function conversation_walk(keys, command, from, count, visit, page)
  local stop = command == 'XRANGE' and '+' or '-'
  while true do
    local entries = redis.call(command, keys[2], from, stop, 'COUNT', count)
    for _, entry in ipairs(entries) do
      if visit(entry) then return end
    end
    if #entries < count then return end
    from, count = '(' .. entries[#entries][1], page or CONVERSATION_PAGE
  end
end

local function conversation_stored_turn(keys, turn, first)
  local rows = {}
  conversation_walk(keys, 'XRANGE', first, 5, function(entry)
    if entry[2][2] ~= turn then return true end
    rows[#rows + 1] = conversation_row(entry)
  end)
  return rows
end

-- Whether retention may cut before an entry, which stands behind one of the turn `before`.
local function conversation_starts(entry, before)
  local turn = entry[2][2]
  return entry[2][8] == '1' or (turn ~= '' and turn ~= before
    and string.match(entry[2][10], '^{"role":"(%a+)"') ~= 'tool')
end

-- Drops whole turns from the old end until at most `max_messages` are left, but never
-- the newest turn.
local function conversation_retain(keys, max_messages)
  if max_messages == '' then return end
  local excess = redis.call('XLEN', keys[2]) - tonumber(max_messages)
  if excess <= 0 then return end
  local marks, index, oldest, oldest_index, before = {}, 0, nil, nil, nil
  local count = math.min(excess + 1, CONVERSATION_PAGE) -- as a rule a turn begins there
  conversation_walk(keys, 'XRANGE', '-', count, function(entry)
    if conversation_starts(entry, before) then oldest, oldest_index = entry[1], index end
    if oldest and oldest_index >= excess then return true end
    index, before = index + 1, entry[2][2]
    marks[index] = {entry[2][2], entry[2][4]}
  end)
  if not oldest or oldest_index == 0 then return end
  redis.call('HINCRBY', keys[1], 'dropped', oldest_index)
  redis.call('XTRIM', keys[2], 'MINID', oldest)
  redis.call('ZREMRANGEBYSCORE', keys[5], '-inf', '(' .. string.match(oldest, '^%d+'))
  for i = 1, oldest_index do
    redis.call('HDEL', keys[3], 'turn:' .. marks[i][1], 'client:' .. marks[i][2])
  end
end

-- Whether a conversation of this id, or head, is hidden when a turn creates it.
local function conversation_hides(id)
  return string.find(string.match(id, '[^:]*$'), '^hidden%-') ~= nil
end

-- head: config, metadata (both JSON), max_messages, ttl_ms, hidden ('1' or '')
local function conversation_create(keys, head, now_ms)
  redis.call('HSET', keys[1], 'config', head.config, 'metadata', head.metadata,
    'max_messages', head.max_messages, 'ttl_ms', head.ttl_ms, 'hidden', head.hidden,
    'created_ms', now_ms, 'updated_ms', now_ms, 'last_seq', 0, 'user_seq', 0,
    'dropped', 0, 'deleted', 0)
  redis.call('DEL', keys[2], keys[3], keys[4], keys[5]) -- should a lost head have left them
  if head.hidden == '1' then return end
  local prefix, id = string.match(keys[1], '^(.*:)([^:]+)$')
  local newest = redis.call('ZREVRANGE', keys[7], 0, 0, 'WITHSCORES')
  redis.call('ZADD', keys[7], (tonumber(newest[2]) or 0) + 1, id)
  -- Expired conversations leave their ids behind: two looked at for each one added
  -- keep the index below about twice the living.
  for _, other in ipairs(redis.call('ZRANDMEMBER', keys[7], 2)) do
    if redis.call('EXISTS', prefix .. other) == 0 then
      redis.call('ZREM', keys[7], other)
    end
  end
end

-- entry: seq, turn, client, at, start, role, kind, body
local function conversation_add(keys, entry)
  -- Lua's own way of writing a number ends at 14 digits.
  redis.call('XADD', keys[2], string.format('%d-0', entry.seq), 'turn', entry.turn,
    'client', entry.client, 'at', entry.at, 'start', entry.start and '1' or '0',
    'message', entry.body)
  if entry.client ~= '' then
    redis.call('HSET', keys[3], 'client:' .. entry.client, entry.seq)
  end
  if entry.turn ~= '' then
    redis.call('HSETNX', keys[3], 'turn:' .. entry.turn, entry.seq)
  end
  if entry.kind == 'kept' then
    redis.call('ZADD', keys[5], entry.seq, entry.seq)
  elseif entry.kind == 'summary' then
    redis.call('HSET', keys[1], 'summary_seq', entry.seq)
  end
  if entry.role == 'user' then
    redis.call('HSET', keys[1], 'user_seq', entry.seq)
  end
end

-- Puts the time to live off.
local function conversation_keep(keys)
  local ttl_ms = redis.call('HGET', keys[1], 'ttl_ms')
  if ttl_ms and ttl_ms ~= '' then
    for i = 1, 5 do redis.call('PEXPIRE', keys[i], ttl_ms) end
  end
end

local function conversation_touch(keys, now_ms)
  redis.call('HSET', keys[1], 'updated_ms', now_ms)
  conversation_keep(keys)
end

-- The limits of a conversation as lines (config, max_messages, ttl_ms), or nil.
local function conversation_limits(keys)
  local limits = redis.call('HMGET', keys[1], 'config', 'max_messages', 'ttl_ms')
  return limits[1] and table.concat(limits, '\n') or nil
end

-- The rows of a plan that is not refused, before it is carried out:
-- {seq, turn, at, message JSON} for each message.
local function conversation_append_rows(keys, plan, now_ms)
  if plan.turn_seq then
    return conversation_stored_turn(keys, plan.turn, plan.turn_seq)
  end
  local rows, fresh = {}, {}
  for _, message in ipairs(plan.fresh) do
    fresh[message.seq] = {string.format('%d', message.seq), plan.turn,
      string.format('%d', now_ms), message.body}
  end
  for place, seq in ipairs(plan.seqs) do
    rows[place] = fresh[seq]
      or conversation_row(redis.call('XRANGE', keys[2], seq, seq)[1])
  end
  return rows
end

-- Carries out a plan that is not refused.
local function conversation_append_write(keys, argv, plan, now_ms)
  if plan.turn_seq then return end
  if not plan.exists then
    conversation_create(keys, {config = argv[3], metadata = '{}', max_messages = argv[4],
      ttl_ms = argv[5], hidden = conversation_hides(keys[1]) and '1' or ''}, now_ms)
  end
  for place, message in ipairs(plan.fresh) do
    message.turn, message.at = plan.turn, now_ms
    message.start = message.role ~= 'tool' and (plan.turn == '' or place == 1)
    conversation_add(keys, message)
  end
  if #plan.fresh == 0 then return end
  redis.call('HSET', keys[1], 'last_seq', plan.fresh[#plan.fresh].seq)
  redis.call('DEL', keys[4])
  for id in pairs(plan.open) do redis.call('SADD', keys[4], id) end
  conversation_retain(keys, redis.call('HGET', keys[1], 'max_messages'))
  conversation_touch(keys, now_ms)
end

-- The keys of a conversation, as append_keys gives them.
local function conversation_keys(tenant, id)
  local prefix = 'celeriac:' .. tenant .. ':conversation:'
  local head = prefix .. id
  return {head, head .. ':log', head .. ':seen', head .. ':open', head .. ':system',
    head .. ':tombstone', prefix .. '_index'}
end

-- The end of a text that fits, from the beginning of a character on.
local function conversation_newest_part(text)
  local from = math.max(1, #text - CONVERSATION_MAX_SAID + 1)
  while from > 1 and from <= #text do
    local byte = string.byte(text, from)
    if byte < 128 or byte > 191 then break end
    from = from + 1
  end
  return string.sub(text, from)
end

-- The newest pieces of an unfinished answer that fit, joined.
local function conversation_said(pieces)
  local kept, left = {}, CONVERSATION_MAX_SAID
  if #pieces > 0 then
    pieces[#pieces] = conversation_newest_part(pieces[#pieces])
  end
  for i = #pieces, 1, -1 do
    left = left - #pieces[i]
    if left < 0 then break end
    table.insert(kept, 1, pieces[i])
  end
  return table.concat(kept, '\n\n')
end

-- Adds a turn that ended without an answer: what was asked, then a closing mark.
-- close: turn, summary (message JSON or nil), asked (lines of message JSON), said
-- (pieces of text), ended (a word of CONVERSATION_CLOSING_NOTES), limits (lines: config,
-- max_messages, ttl_ms, to create with). With `on_failure` 'drop' only the summary, which
-- is of earlier turns. Adds nothing to a deleted conversation or for a turn that is there
-- already. Comes after the caller's first write.
local function conversation_close(keys, close, now_ms)
  local config, max_messages, ttl_ms = string.match(close.limits, '^(.-)\n(.-)\n(.*)$')
  local policy = redis.call('HGET', keys[1], 'config') or config
  local drops = cjson.decode(policy).on_failure == 'drop'
  if drops and not close.summary then return end
  local said = string.gsub(conversation_said(close.said), '%z', '\239\191\189')
  if said ~= '' then said = said .. '\n\n' end
  local argv = {close.turn, '', config, max_messages, ttl_ms}
  local function add(role, body, kind)
    for _, value in ipairs({role, '', body, kind or '', '', '0'}) do
      argv[#argv + 1] = value
    end
  end
  if close.summary then add('system', close.summary, 'summary') end
  if not drops then
    for line in string.gmatch(close.asked, '[^\n]+') do add('user', line) end
    add('assistant', '{"role":"assistant","content":'
      .. cjson.encode(said .. CONVERSATION_CLOSING_NOTES[close.ended])
      .. ',"metadata":{"closed":"' .. close.ended .. '"}}')
  end
  local plan = conversation_append_plan(keys, argv)
  if not plan.refused then conversation_append_write(keys, argv, plan, now_ms) end
end
