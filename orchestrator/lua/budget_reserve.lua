-- Takes an amount from every account, or from none.
--
-- KEYS  budget.lua's
-- ARGV  1 token   2 tokens   3 micros   4 how long an account is kept (ms), then for each
--       account: daily ('1' or '0'), tokens and micros at most (-1: no bound)
-- Returns {'reserved', day} or {'spent', account, tokens, micros}.

local OPEN = 'open:' .. ARGV[1]

for i = 1, #KEYS do
  local at = 5 + 3 * (i - 1)
  local key = account(i, ARGV[at], TODAY)
  if redis.call('HEXISTS', key, OPEN) == 1 then
    return {'reserved', TODAY}
  end
  local tokens, micros = amount(key, 'tokens'), amount(key, 'micros')
  local most_tokens, most_micros = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if most_tokens >= 0 and tokens + tonumber(ARGV[2]) > most_tokens
    or most_micros >= 0 and micros + tonumber(ARGV[3]) > most_micros then
    return {'spent', i, tokens, micros}
  end
end
for i = 1, #KEYS do
  local key = account(i, ARGV[5 + 3 * (i - 1)], TODAY)
  redis.call('HINCRBY', key, 'tokens', ARGV[2])
  redis.call('HINCRBY', key, 'micros', ARGV[3])
  redis.call('HSET', key, OPEN, ARGV[2] .. ' ' .. ARGV[3])
  redis.call('PEXPIRE', key, ARGV[4])
end
return {'reserved', TODAY}
