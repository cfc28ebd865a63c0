-- Takes from budgets; stands after budget.lua.

-- A task's account goes when its record does, however long the task is parked.
local function keep_account(key, daily, ms)
  local left = daily == '1' and -2 or redis.call('PTTL', string.match(key, '^(.*):budget$'))
  if left == -1 then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIRE', key, left > 0 and left or ms)
  end
end

-- Takes an amount from every account, or from none.
--
-- wish  1 token   2 tokens   3 micros   4 how long an account is kept that is no task's (ms),
--       then for each account: daily ('1' or '0'), tokens and micros at most (-1: no bound)
-- Returns {'reserved', day} or {'spent', account, tokens, micros}.
local function budget_reserve(keys, wish)
  local OPEN = 'open:' .. wish[1]
  local TOKENS, MICROS = tonumber(wish[2]), tonumber(wish[3])
  local DAY = today()

  -- A repeat that comes after midnight finds what was reserved before it.
  for i = 1, #keys do
    local daily = wish[5 + 3 * (i - 1)]
    local key = account(keys[i], daily, DAY - 1)
    if daily == '1' and redis.call('HEXISTS', key, OPEN) == 1 then
      DAY = DAY - 1
      break
    end
  end

  local totals = {}
  for i = 1, #keys do
    local at = 5 + 3 * (i - 1)
    local key = account(keys[i], wish[at], DAY)
    local spent = redis.call('HMGET', key, 'tokens', 'micros', OPEN)
    if spent[3] then
      return {'reserved', DAY}
    end
    local tokens, micros = tonumber(spent[1] or '0'), tonumber(spent[2] or '0')
    local most_tokens, most_micros = tonumber(wish[at + 1]), tonumber(wish[at + 2])
    if most_tokens >= 0 and tokens + TOKENS > most_tokens
      or most_micros >= 0 and micros + MICROS > most_micros then
      return {'spent', i, tokens, micros}
    end
    totals[i] = {key, tokens + TOKENS, micros + MICROS, wish[at]}
  end
  for _, total in ipairs(totals) do
    redis.call('HSET', total[1], 'tokens', text(total[2]), 'micros', text(total[3]),
      OPEN, wish[2] .. ' ' .. wish[3])
    keep_account(total[1], total[4], wish[4])
  end
  return {'reserved', DAY}
end
