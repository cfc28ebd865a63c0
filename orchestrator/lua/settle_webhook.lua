-- Notes how a delivery went: done, to be repeated, or given up. What was delivered stays
-- so: whoever took it before may have been asleep, and tells of a failure now.
--
-- KEYS  1 record, 2 webhooks of all tenants by when they are due (zset)
-- ARGV  1 member ('tenant id'), 2 error or '' when it was delivered,
--       3 delay before the next attempt (ms) or '' when there is none

if redis.call('EXISTS', KEYS[1]) == 0
  or redis.call('HEXISTS', KEYS[1], 'webhook_delivered_ms') == 1 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {}
end
redis.call('HINCRBY', KEYS[1], 'webhook_attempts', 1)
if ARGV[2] == '' then
  redis.call('HSET', KEYS[1], 'webhook_delivered_ms', AT)
  redis.call('HDEL', KEYS[1], 'webhook_error')
else
  redis.call('HSET', KEYS[1], 'webhook_error', ARGV[2])
end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], text(NOW + tonumber(ARGV[3])), ARGV[1])
end
return {}
