-- Says that a worker stops; its agents stay known. Stands after slots.lua.
--
-- KEYS  1 the worker's announcement, 2 announced workers (zset),
--       3 each worker's slots and queues (hash), 4 live slots by queue (hash),
--       5 names of the agents that it serves
-- ARGV  1 worker id

redis.call('DEL', KEYS[1], KEYS[5])
forget_worker(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
return {}
