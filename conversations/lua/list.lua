-- Lists heads, newest first, and forgets ids whose conversations have expired, so many in one
-- call: Redis serves others before the next.
-- KEYS: index. ARGV: what precedes an id in a head's key, limit, place in the order of
--   creation below which to start ('+inf' for the newest).
-- Returns rows {place, id, the head's fields and values}, and where to go on: '' when there
-- are as many as asked for, or no more.
local MOST_GONE = 500
local rows, below, gone = {}, ARGV[3], 0
local limit = tonumber(ARGV[2])
while #rows < limit and gone < MOST_GONE do
  local page = redis.call('ZREVRANGEBYSCORE', KEYS[1], '(' .. below, '-inf',
    'WITHSCORES', 'LIMIT', 0, limit - #rows)
  if #page == 0 then return {rows, ''} end
  for i = 1, #page, 2 do
    local head = redis.call('HGETALL', ARGV[1] .. page[i])
    if #head == 0 then
      redis.call('ZREM', KEYS[1], page[i])
      gone = gone + 1
    else
      rows[#rows + 1] = {page[i + 1], page[i], head}
    end
    below = page[i + 1]
  end
end
return {rows, #rows < limit and below or ''}
