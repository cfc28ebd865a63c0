-- Returns {tokens, micros} of an account.
--
-- KEYS  1 account
-- ARGV  1 daily ('1' or '0')

local spent = redis.call('HMGET', account(KEYS[1], ARGV[1], today()), 'tokens', 'micros')
return {tonumber(spent[1] or '0'), tonumber(spent[2] or '0')}
