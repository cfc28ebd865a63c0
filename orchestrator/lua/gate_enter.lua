-- Grants a permit, or a place among those who wait.
--
-- KEYS  gate.lua's
-- ARGV  1 token   2 task   3 tenant   4 priority   5 tokens   6 lease (ms)
--       7 in flight, 8 requests, 9 tokens at most (-1: no bound)   10 part (ms)
--       11 parts in a window   12 how long a waiter is kept (ms)   13 a place (ms)
--       14 failures to open   15 time between probes (ms)
-- Returns {'permit', part} or {'wait', reason, ms, waiters, closed for (ms)}.

local TOKEN, TASK, TENANT = ARGV[1], ARGV[2], ARGV[3]
local WANTED, MOST = tonumber(ARGV[5]), tonumber(ARGV[7])
local MOST_REQUESTS, MOST_TOKENS = tonumber(ARGV[8]), tonumber(ARGV[9])
local PART_MS, PARTS = tonumber(ARGV[10]), tonumber(ARGV[11])
local PART = math.floor(NOW / PART_MS)

redis.call('ZREMRANGEBYSCORE', PERMITS, '-inf', text(NOW))
local late = redis.call('ZRANGEBYSCORE', SEEN, '-inf', text(NOW), 'LIMIT', 0, 100)
for _, gone in ipairs(late) do
  redis.call('ZREM', SEEN, gone)
  redis.call('ZREM', WAITING, gone)
  redis.call('HDEL', PLACES, gone)
end
if redis.call('ZSCORE', PERMITS, TOKEN) then
  return {'permit', PART}
end

-- Start-time fair queueing: a tenant's next call is placed behind its last one, or
-- where the gate is now, so that a flood of one tenant waits behind itself.
local place = tonumber(redis.call('HGET', PLACES, TASK) or nil)
if not place then
  local share = 'f:' .. TENANT
  place = math.max(number('v') or 0, number(share) or 0)
  redis.call('HSET', STATE, share, text(place + 1))
  redis.call('HSET', PLACES, TASK, text(place))
end
redis.call('ZADD', SEEN, text(NOW + tonumber(ARGV[13])), TASK)
local order = (9 - tonumber(ARGV[4])) * 1e12 + place
redis.call('ZADD', WAITING, text(order), TOKEN)
local rank = redis.call('ZRANK', WAITING, TOKEN)

local requests, tokens, oldest = count_window(PART, PARTS)
local free = MOST < 0 and math.huge or MOST - redis.call('ZCARD', PERMITS)
local reason, ms = closed(tonumber(ARGV[14]))
if reason == 'unavailable' and ms == 0 and rank == 0 then
  redis.call('HSET', STATE, 'probe_ms', text(NOW + tonumber(ARGV[15])))
  reason = nil
elseif not reason then
  -- A call that alone is larger than the limit passes when the window is empty.
  local room = MOST_TOKENS < 0 or tokens == 0 or tokens + WANTED <= MOST_TOKENS
  local left = MOST_REQUESTS < 0 and math.huge or MOST_REQUESTS - requests
  local leaves = ((oldest or PART) + PARTS + 1) * PART_MS - NOW
  if left <= 0 then
    reason, ms = 'requests', leaves
  elseif not room then
    reason, ms = 'tokens', leaves
  elseif rank >= math.min(free, left) then
    reason, ms = 'in_flight', 20 * (1 + math.max(0, rank - math.max(free, 0)))
  end
end

keep_keys()
if reason then
  ms = math.max(20, math.min(ms, reason == 'in_flight' and 1000 or ms))
  redis.call('ZADD', SEEN, text(NOW + ms + tonumber(ARGV[12])), TOKEN)
  return {'wait', reason, ms, redis.call('HLEN', PLACES), trouble_for() or 0}
end
redis.call('ZREM', WAITING, TOKEN)
redis.call('ZREM', SEEN, TOKEN, TASK)
redis.call('HDEL', PLACES, TASK)
redis.call('ZADD', PERMITS, text(NOW + tonumber(ARGV[6])), TOKEN)
redis.call('HSET', STATE, 'v', text(math.max(number('v') or 0, place)))
redis.call('HINCRBY', WINDOW, 'r' .. text(PART), 1)
redis.call('HINCRBY', WINDOW, 't' .. text(PART), WANTED)
return {'permit', PART}
