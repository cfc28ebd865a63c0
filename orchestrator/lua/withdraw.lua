-- Says that a worker stops; its agents stay known.
--
-- KEYS  1 the worker's announcement, 2 announced workers (zset)
-- ARGV  1 worker id

redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return {}
