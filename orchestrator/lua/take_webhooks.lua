-- Takes webhooks that are due, for a while: who takes them delivers them, else they are
-- due again. What its receiver has no place for is put off, the more of it the longer, so
-- that a backlog of one keeps nothing of the others out of sight. However long the backlog
-- is, about LOOKED_AT of it are looked at in a second.
--
-- KEYS  1 webhooks of all tenants by when they are due (zset), 2 prefix of every key of ours
-- ARGV  1 how many at most, 2 for how long (ms), 3 how many to one receiver, 4.. receivers
--       that have fewer places, and how many
-- Returns {member ('tenant id') and receiver of each, whether more may be due}; a receiver
-- that is not all ASCII by a digest.

local LOOKED_AT = 1000
local PUT_OFF, LEAST_EACH = 50, 5 -- ms

local limit, places, found, behind = tonumber(ARGV[1]), {}, {}, 0
for i = 4, #ARGV, 2 do
  places[ARGV[i]] = tonumber(ARGV[i + 1])
end
local each = math.max(LEAST_EACH, redis.call('ZCARD', KEYS[1]) / LOOKED_AT)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', AT, 'LIMIT', 0, LOOKED_AT)
for _, member in ipairs(due) do
  if #found == 2 * limit then
    return {found, 1}
  end
  local tenant, id = names_in(member)
  local receiver = tenant
    and (redis.pcall('HGET', KEYS[2] .. tenant .. ':task:' .. id, 'webhook') or '')
  if type(receiver) == 'string' and string.find(receiver, '[\128-\255]') then
    receiver = redis.sha1hex(receiver) -- else one that is no text hid what is told with it
  end
  local left = places[receiver or ''] or tonumber(ARGV[3])
  if type(receiver) ~= 'string' then
    redis.call('ZREM', KEYS[1], member) -- no webhook of ours, or no record any more
  elseif left > 0 then
    places[receiver] = left - 1
    found[#found + 1], found[#found + 2] = member, receiver
    redis.call('ZADD', KEYS[1], text(NOW + tonumber(ARGV[2])), member)
  else
    behind = behind + 1
    redis.call('ZADD', KEYS[1], text(NOW + PUT_OFF + math.floor(each * behind)), member)
  end
end
return {found, #due == LOOKED_AT and 1 or 0}
