-- Ends a wait; the task keeps its place for a while.
--
-- KEYS  gate.lua's
-- ARGV  1 token

redis.call('ZREM', WAITING, ARGV[1])
redis.call('ZREM', SEEN, ARGV[1])
return 1
