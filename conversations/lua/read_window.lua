-- Reads the head and what a model may see: the newest `context_window` messages, and
-- before them the kept messages, the newest summary and the newest user message; of
-- calls that await results the whole group, however long.
-- KEYS: head, log, system, open. Returns nil, or {the head's fields and values, rows}.
local head = redis.call('HGETALL', KEYS[1])
if #head == 0 then return false end
local window = cjson.decode(redis.call('HGET', KEYS[1], 'config')).context_window
local tail = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', window)
local rows = {}
local function is_result(entry)
  return string.match(entry[2][10], '^{"role":"(%a+)"') == 'tool'
end
if #tail > 0 and redis.call('EXISTS', KEYS[4]) == 1 then
  local at = 1
  while tail[at] and is_result(tail[at]) do
    at = at + 1
    if not tail[at] then
      local before = '(' .. tail[#tail][1]
      tail[at] = redis.call('XREVRANGE', KEYS[2], before, '-', 'COUNT', 1)[1]
    end
  end
end
if #tail > 0 then
  local start = tonumber(string.match(tail[#tail][1], '^%d+'))
  local earlier =
    redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. start)
  local marks = redis.call('HMGET', KEYS[1], 'user_seq', 'summary_seq')
  for i = 1, 2 do
    local seq = tonumber(marks[i] or nil) or 0
    local known = seq == 0 or redis.call('ZSCORE', KEYS[3], seq)
    if not known and seq < start then earlier[#earlier + 1] = seq end
  end
  table.sort(earlier, function(a, b) return tonumber(a) < tonumber(b) end)
  for _, seq in ipairs(earlier) do
    local entry = redis.call('XRANGE', KEYS[2], seq, seq)[1]
    if entry then rows[#rows + 1] = conversation_row(entry) end
  end
end
for i = #tail, 1, -1 do rows[#rows + 1] = conversation_row(tail[i]) end
return {head, rows}
