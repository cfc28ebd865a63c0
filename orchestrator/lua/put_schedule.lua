-- Keeps a schedule, over an earlier one of its id.
--
-- KEYS  1 the tenant's schedules (hash), 2 schedules of all tenants by tick (zset)
-- ARGV  1 id, 2 schedule (JSON), 3 member ('tenant id'), 4 next tick (ms)

redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
return {}
