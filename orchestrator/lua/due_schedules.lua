-- Finds schedules whose tick has come; changes nothing.
--
-- KEYS  1 schedules of all tenants by their next tick (zset)
-- ARGV  1 how many at most
-- Returns {now (ms), member and tick (ms) of each in turn}.

return {text(NOW), redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(NOW), 'WITHSCORES',
  'LIMIT', 0, ARGV[1])}
