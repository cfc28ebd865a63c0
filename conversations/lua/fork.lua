-- Begins a conversation with the history of another up to a message, or goes on in that
-- one. The messages pass through no client.
-- KEYS: append_keys of the source, then of the new one. ARGV: creator (names this call,
--   so that a repeat is known), the last message to take over ('' all), hidden ('1' or
--   ''), time to live (ms) where the source has none ('' none either), the same in its
--   config's words, whether the first who asks may go on in a hidden source that ends
--   there ('1' or ''), newest user message up to the last ('' as in the source), ids of the calls open
--   after it ('' as in the source, else how many, then each).
-- Returns {'ok' or 'same', the head's fields and values} or {'taken' | 'deleted' |
-- 'not_found' | 'gone'} ('same': go on in the source; 'gone': the last message is not
-- kept).
local PAGE = 1000
local source, keys = {}, {}
for i = 1, 7 do source[i], keys[i] = KEYS[i], KEYS[7 + i] end
if redis.call('HGET', keys[1], 'creator') == ARGV[1] then
  return {'ok', redis.call('HGETALL', keys[1])}
end
local names = {'config', 'metadata', 'max_messages', 'ttl_ms', 'last_seq', 'user_seq',
  'summary_seq', 'dropped', 'hidden', 'branched'}
local head, values = {}, redis.call('HMGET', source[1], unpack(names))
for i, name in ipairs(names) do head[name] = values[i] end
if not head.config then return {'not_found'} end
local at = ARGV[2] == '' and head.last_seq or ARGV[2]
if ARGV[2] ~= '' and #redis.call('XRANGE', source[2], at, at) == 0 then
  return {'gone'}
end

local now_ms = conversation_now_ms()
if ARGV[6] == '1' and head.hidden == '1'
  and #redis.call('XRANGE', source[2], '(' .. at .. '-0', '+', 'COUNT', 1) == 0 then
  local since, by = string.match(head.branched or '', '^(%d+) (.*)$')
  if since ~= at or by == ARGV[1] then
    redis.call('HSET', source[1], 'branched', at .. ' ' .. ARGV[1])
    conversation_touch(source, now_ms)
    return {'same', redis.call('HGETALL', source[1])}
  end
end
if redis.call('EXISTS', keys[6]) == 1 then return {'deleted'} end
if redis.call('EXISTS', keys[1]) == 1 then return {'taken'} end
if head.ttl_ms == '' and ARGV[4] ~= '' then
  head.ttl_ms = ARGV[4]
  head.config = string.gsub(head.config, '"ttl_seconds":null', '"ttl_seconds":' .. ARGV[5])
end
conversation_create(keys, {config = head.config, metadata = head.metadata,
  max_messages = head.max_messages, ttl_ms = head.ttl_ms, hidden = ARGV[3]}, now_ms)
-- Every Redis knows XSETID; fakeredis does not, and its COPY would share the value.
local copies = not redis.pcall('XSETID', source[2], head.last_seq .. '-0').err
local is_cut = tonumber(at) < tonumber(head.last_seq)

-- Entry by entry: since Redis 7.2 a stream from which the newest are deleted takes none
-- of their numbers again, so a whole copy that is cut could not go on.
local function copy_entries()
  local from = '-'
  while true do
    local page = redis.call('XRANGE', source[2], from, at, 'COUNT', PAGE)
    for _, entry in ipairs(page) do
      redis.call('XADD', keys[2], entry[1], unpack(entry[2]))
    end
    if #page < PAGE then return end
    from = '(' .. page[#page][1]
  end
end

local function copy_others_by_part()
  local seen = redis.call('HGETALL', source[3])
  for i = 1, #seen, 2 do
    if tonumber(seen[i + 1]) <= tonumber(at) then
      redis.call('HSET', keys[3], seen[i], seen[i + 1])
    end
  end
  for _, id in ipairs(redis.call('SMEMBERS', source[4])) do
    redis.call('SADD', keys[4], id)
  end
  for _, seq in ipairs(redis.call('ZRANGE', source[5], 0, -1)) do
    redis.call('ZADD', keys[5], seq, seq)
  end
end

-- Forgets the writers' ids and the turns of the messages beyond `at`.
local function cut_marks()
  local from = '(' .. at .. '-0'
  while true do
    local page = redis.call('XRANGE', source[2], from, '+', 'COUNT', PAGE)
    local marks, turns = {'client:'}, {}
    for _, entry in ipairs(page) do
      local turn, client = entry[2][2], entry[2][4]
      if client ~= '' then marks[#marks + 1] = 'client:' .. client end
      if turn ~= '' and not turns[turn] then
        turns[turn] = true
        local first = redis.call('HGET', keys[3], 'turn:' .. turn)
        if first and tonumber(first) > tonumber(at) then
          marks[#marks + 1] = 'turn:' .. turn
        end
      end
    end
    redis.call('HDEL', keys[3], unpack(marks))
    if #page < PAGE then return end
    from = '(' .. page[#page][1]
  end
end

-- The newest summary of the copy, where the source's stands beyond its end.
local function newest_summary()
  local from = '+'
  while true do
    local page = redis.call('XREVRANGE', keys[2], from, '-', 'COUNT', PAGE)
    for _, entry in ipairs(page) do
      if conversation_is_summary(entry) then return string.match(entry[1], '^%d+') end
    end
    if #page < PAGE then return '0' end
    from = '(' .. page[#page][1]
  end
end

if copies and not is_cut then
  redis.call('COPY', source[2], keys[2])
else
  copy_entries()
end
if copies then
  for i = 3, 5 do redis.call('COPY', source[i], keys[i]) end
else
  copy_others_by_part()
end
if is_cut then
  if copies then cut_marks() end
  redis.call('ZREMRANGEBYSCORE', keys[5], '(' .. at, '+inf')
  redis.call('DEL', keys[4])
  for i = 9, 8 + tonumber(ARGV[8]) do redis.call('SADD', keys[4], ARGV[i]) end
  head.user_seq = ARGV[7]
  if tonumber(head.summary_seq or 0) > tonumber(at) then
    head.summary_seq = newest_summary()
  end
end
redis.call('HSET', keys[1], 'creator', ARGV[1], 'last_seq', at,
  'user_seq', head.user_seq, 'summary_seq', head.summary_seq or '0',
  'dropped', head.dropped,
  'deleted', tonumber(at) - tonumber(head.dropped) - redis.call('XLEN', keys[2]))
conversation_touch(keys, now_ms)
return {'ok', redis.call('HGETALL', keys[1])}
