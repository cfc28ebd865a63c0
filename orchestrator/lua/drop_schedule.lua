-- Ends a schedule; the tasks that it has submitted go on.
--
-- KEYS  1 the tenant's schedules (hash), 2 schedules of all tenants by tick (zset)
-- ARGV  1 id, 2 member ('tenant id')
-- Returns 1 when there was one.

redis.call('ZREM', KEYS[2], ARGV[2])
return redis.call('HDEL', KEYS[1], ARGV[1])
