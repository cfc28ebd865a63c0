-- Returns {tokens, micros} of an account.
--
-- KEYS  budget.lua's, one
-- ARGV  1 daily ('1' or '0')

local key = account(1, ARGV[1], TODAY)
return {amount(key, 'tokens'), amount(key, 'micros')}
