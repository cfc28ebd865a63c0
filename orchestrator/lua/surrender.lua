-- Gives up leases whose loop stands still, naming who blocks it. Needs no task.lua.
--
-- KEYS  1 leases (zset), 2.. the records
-- ARGV  1 '1' when the blocker is known, then for each record its member
--       ('tenant id'), lease and '1' when it is the blocker
-- Returns how many were given up.

local given = 0
for i = 2, #KEYS do
  local member, lease, blamed = ARGV[3 * i - 4], ARGV[3 * i - 3], ARGV[3 * i - 2]
  local facts = redis.pcall('HMGET', KEYS[i], 'status', 'attempt', 'claim_token')
  if facts[1] == 'running' and (facts[2] or '') .. ' ' .. (facts[3] or '') == lease then
    redis.call('HSET', KEYS[i], 'lease_until_ms', AT)
    redis.call('ZADD', KEYS[1], AT, member)
    if ARGV[1] == '1' then
      redis.call('HSET', KEYS[i], 'surrendered', facts[2])
    end
    if blamed == '1' then
      redis.call('HSET', KEYS[i], 'blamed', facts[2])
    end
    given = given + 1
  end
end
return given
