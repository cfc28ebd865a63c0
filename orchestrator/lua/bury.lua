-- Ends the leases of a worker whose process is known to be gone; the next sweep takes
-- them back as it does expired ones. Needs no task.lua.
--
-- KEYS  1 leases (zset), 2 prefix of every key of ours
-- ARGV  1 worker, 2 where to go on looking ('0' at first), 3 about how many to look at
-- Returns {where to go on, how many were ended}; '0' when the whole fleet's leases have been
-- looked at. A dead worker gets no new ones, so a look in pieces misses none.

local cursor, found = unpack(redis.call('ZSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3]))
local ended = 0
for i = 1, #found, 2 do
  local member = found[i]
  local tenant, id = names_in(member)
  local record = KEYS[2] .. (tenant or '') .. ':task:' .. (id or '')
  local facts = redis.pcall('HMGET', record, 'status', 'worker', 'lease_until_ms')
  if facts[1] == 'running' and facts[2] == ARGV[1]
    and (tonumber(facts[3] or nil) or 0) > NOW then
    redis.call('HSET', record, 'lease_until_ms', AT)
    redis.call('ZADD', KEYS[1], AT, member)
    ended = ended + 1
  end
end
return {cursor, ended}
