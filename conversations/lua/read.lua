-- Reads messages in order; costs what it returns.
-- KEYS: head, log. ARGV: limit, before ('' none), after ('' none).
-- Returns nil when there is no conversation, else rows {seq, turn, at, message JSON}.
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
if ARGV[2] == '0' then return {} end -- nothing precedes it, not even for Redis
local before = ARGV[2] == '' and '+' or '(' .. ARGV[2] .. '-0'
if ARGV[3] ~= '' then
  local entries =
    redis.call('XRANGE', KEYS[2], '(' .. ARGV[3] .. '-0', before, 'COUNT', ARGV[1])
  for i, entry in ipairs(entries) do entries[i] = conversation_row(entry) end
  return entries
end
local entries = redis.call('XREVRANGE', KEYS[2], before, '-', 'COUNT', ARGV[1])
local rows = {}
for i = #entries, 1, -1 do rows[#rows + 1] = conversation_row(entries[i]) end
return rows
