-- Finds what is overdue, of all tenants; changes nothing.
--
-- KEYS  any number of zsets whose scores are instants in ms
-- ARGV  1 how many members to return at most, of each key: none starves another;
--       2.. of each key, how long after its instant a member is overdue (ms)
-- Returns for each key its overdue members, oldest first.

local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.call('ZRANGEBYSCORE', key, '-inf', text(NOW - tonumber(ARGV[i + 1])),
    'LIMIT', 0, ARGV[1])
end
return found
