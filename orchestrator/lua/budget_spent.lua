-- Returns {tokens, micros} of an account.
--
-- KEYS  budget.lua's, one
-- ARGV  1 daily ('1' or '0')

local spent = redis.call('HMGET', account(1, ARGV[1], TODAY), 'tokens', 'micros')
return {tonumber(spent[1] or '0'), tonumber(spent[2] or '0')}
