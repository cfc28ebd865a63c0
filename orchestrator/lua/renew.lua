-- Extends the leases that are still held. Needs no task.lua: it serves many tasks, and
-- what stands in place of one's record must cost no other its lease.
--
-- KEYS  1 leases (zset), 2.. the records
-- ARGV  1 lease (ms), then for each record its member ('tenant id') and lease
-- Returns for each record 'held', 'lost' or 'cancel_requested'.

local lease_until = text(NOW + tonumber(ARGV[1]))

local function renew(record, member, lease)
  local facts = redis.pcall('HMGET', record, 'status', 'attempt', 'claim_token',
    'cancel_requested_ms')
  if facts[1] ~= 'running' or (facts[2] or '') .. ' ' .. (facts[3] or '') ~= lease then
    return 'lost'
  end
  redis.call('ZADD', KEYS[1], lease_until, member)
  redis.call('HSET', record, 'lease_until_ms', lease_until)
  return facts[4] and 'cancel_requested' or 'held'
end

local states = {}
for i = 2, #KEYS do
  states[i - 1] = renew(KEYS[i], ARGV[2 * i - 2], ARGV[2 * i - 1])
end
return states
