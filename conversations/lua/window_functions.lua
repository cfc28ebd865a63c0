-- Stands after append_functions.lua, whose keys it takes.

-- Reads the head and what a model may see: the newest `context_window` messages, and
-- before them the kept messages, the newest summary and the newest user message; of
-- calls that await results the whole group, however long. Returns false where there is
-- no conversation, else {the head's fields and values, rows}.
local function conversation_window(keys)
  local head = redis.call('HGETALL', keys[1])
  if #head == 0 then return false end
  local facts, rows = {}, {}
  for i = 1, #head, 2 do facts[head[i]] = head[i + 1] end
  local window = cjson.decode(facts.config).context_window
  local tail = redis.call('XREVRANGE', keys[2], '+', '-', 'COUNT', window)
  if #tail == 0 then return {head, rows} end
  local function is_result(entry)
    return string.match(entry[2][10], '^{"role":"(%a+)"') == 'tool'
  end
  if redis.call('EXISTS', keys[4]) == 1 then
    local at = 1
    while tail[at] and is_result(tail[at]) do
      at = at + 1
      if not tail[at] then
        local before = '(' .. tail[#tail][1]
        tail[at] = redis.call('XREVRANGE', keys[2], before, '-', 'COUNT', 1)[1]
      end
    end
  end
  local start = tonumber(string.match(tail[#tail][1], '^%d+'))
  local earlier = redis.call('ZRANGEBYSCORE', keys[5], '-inf',
    string.format('(%d', start))
  for _, mark in ipairs({'user_seq', 'summary_seq'}) do
    local seq = tonumber(facts[mark]) or 0
    if seq > 0 and seq < start and not redis.call('ZSCORE', keys[5], seq) then
      earlier[#earlier + 1] = seq
    end
  end
  table.sort(earlier, function(a, b) return tonumber(a) < tonumber(b) end)
  for _, seq in ipairs(earlier) do
    local entry = redis.call('XRANGE', keys[2], seq, seq)[1]
    if entry then rows[#rows + 1] = conversation_row(entry) end
  end
  for i = #tail, 1, -1 do rows[#rows + 1] = conversation_row(tail[i]) end
  return {head, rows}
end
