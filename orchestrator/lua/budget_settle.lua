-- Replaces what was reserved by what was taken; what is settled is left alone.
--
-- KEYS  budget.lua's
-- ARGV  1 token   2 tokens   3 micros   4 day of the reservation, then for each account:
--       daily ('1' or '0')

local OPEN = 'open:' .. ARGV[1]

for i = 1, #KEYS do
  local key = account(i, ARGV[4 + i], tonumber(ARGV[4]))
  local spent = redis.call('HMGET', key, 'tokens', 'micros', OPEN)
  if spent[3] then
    local tokens, micros = string.match(spent[3], '^(%d+) (%d+)$')
    redis.call('HSET', key,
      'tokens', text(tonumber(spent[1]) + tonumber(ARGV[2]) - tonumber(tokens)),
      'micros', text(tonumber(spent[2]) + tonumber(ARGV[3]) - tonumber(micros)))
    redis.call('HDEL', key, OPEN)
  end
end
return 1
