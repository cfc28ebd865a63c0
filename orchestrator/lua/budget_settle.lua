-- Settles with budgets; stands after budget.lua.

-- Replaces what was reserved by what was taken; what is settled is left alone.
--
-- taken  1 token   2 tokens   3 micros   4 day of the reservation, then for each account:
--        daily ('1' or '0')
local function budget_settle(keys, taken)
  local OPEN = 'open:' .. taken[1]

  for i = 1, #keys do
    local key = account(keys[i], taken[4 + i], tonumber(taken[4]))
    local spent = redis.call('HMGET', key, 'tokens', 'micros', OPEN)
    if spent[3] then
      local tokens, micros = string.match(spent[3], '^(%d+) (%d+)$')
      redis.call('HSET', key,
        'tokens', text(tonumber(spent[1]) + tonumber(taken[2]) - tonumber(tokens)),
        'micros', text(tonumber(spent[2]) + tonumber(taken[3]) - tonumber(micros)))
      redis.call('HDEL', key, OPEN)
    end
  end
  return 1
end
