-- Finds what is overdue, of all tenants; removes what is no name of ours.
--
-- KEYS  any number of zsets whose scores are instants in ms
-- ARGV  1 how many members to return at most, of each key: none starves another;
--       2.. of each key, how long after its instant a member is overdue (ms)
-- Returns for each key its overdue members, oldest first.

local found = {}
for i, key in ipairs(KEYS) do
  found[i] = {}
  local overdue = redis.call('ZRANGEBYSCORE', key, '-inf', text(NOW - tonumber(ARGV[i + 1])),
    'LIMIT', 0, ARGV[1])
  for _, member in ipairs(overdue) do
    if names_in(member) then
      table.insert(found[i], member)
    else
      redis.call('ZREM', key, member)
    end
  end
end
return found
