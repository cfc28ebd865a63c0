-- Reads messages in order; costs what it returns.
-- KEYS: head, log. ARGV: limit, before ('' none), after ('' none), most bytes.
-- Returns nil when there is no conversation, else '1' where the bytes ended it before the
-- limit did (the last message may exceed them), then rows {seq, turn, at, message JSON}.
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
if ARGV[2] == '0' then return {'', {}} end -- nothing precedes it, not even for Redis
local limit, most = tonumber(ARGV[1]), tonumber(ARGV[4])
local PAGE = 16 -- entries are copied to the script whole, also those beyond the bytes
local rows, bytes, is_cut = {}, 0, ''
local forward, bound, command, from = ARGV[3] ~= '', nil, 'XREVRANGE', '+'
if forward then
  command, from, bound = 'XRANGE', '(' .. ARGV[3] .. '-0', tonumber(ARGV[2])
elseif ARGV[2] ~= '' then
  from = '(' .. ARGV[2] .. '-0'
end
conversation_walk(KEYS, command, from, math.min(limit, PAGE), function(entry)
  local row = conversation_row(entry)
  if bound and tonumber(row[1]) >= bound then return true end
  rows[#rows + 1], bytes = row, bytes + #row[4]
  if #rows == limit then return true end
  if bytes >= most then
    is_cut = '1'
    return true
  end
end, PAGE)
if not forward then
  for i = 1, math.floor(#rows / 2) do
    rows[i], rows[#rows + 1 - i] = rows[#rows + 1 - i], rows[i]
  end
end
return {is_cut, rows}
