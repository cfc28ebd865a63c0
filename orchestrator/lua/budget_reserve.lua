-- Takes an amount from every account, or from none.
--
-- KEYS  budget.lua's
-- ARGV  1 token   2 tokens   3 micros   4 how long an account is kept (ms), then for each
--       account: daily ('1' or '0'), tokens and micros at most (-1: no bound)
-- Returns {'reserved', day} or {'spent', account, tokens, micros}.

local OPEN = 'open:' .. ARGV[1]
local TOKENS, MICROS = tonumber(ARGV[2]), tonumber(ARGV[3])
local DAY = TODAY

-- A repeat that comes after midnight finds what was reserved before it.
for i = 1, #KEYS do
  local daily = ARGV[5 + 3 * (i - 1)]
  if daily == '1' and redis.call('HEXISTS', account(i, daily, TODAY - 1), OPEN) == 1 then
    DAY = TODAY - 1
  end
end

local totals = {}
for i = 1, #KEYS do
  local at = 5 + 3 * (i - 1)
  local key = account(i, ARGV[at], DAY)
  local spent = redis.call('HMGET', key, 'tokens', 'micros', OPEN)
  if spent[3] then
    return {'reserved', DAY}
  end
  local tokens, micros = tonumber(spent[1] or '0'), tonumber(spent[2] or '0')
  local most_tokens, most_micros = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if most_tokens >= 0 and tokens + TOKENS > most_tokens
    or most_micros >= 0 and micros + MICROS > most_micros then
    return {'spent', i, tokens, micros}
  end
  totals[i] = {key, tokens + TOKENS, micros + MICROS}
end
for _, total in ipairs(totals) do
  redis.call('HSET', total[1], 'tokens', text(total[2]), 'micros', text(total[3]),
    OPEN, ARGV[2] .. ' ' .. ARGV[3])
  redis.call('PEXPIRE', total[1], ARGV[4])
end
return {'reserved', DAY}
