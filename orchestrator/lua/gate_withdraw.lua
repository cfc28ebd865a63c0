-- Ends a wait; the task keeps its place for a while. A permit that was granted
-- meanwhile returns; what its call was counted for stays counted.
--
-- KEYS  1 gate
-- ARGV  1 token

at_gate(KEYS[1])
redis.call('ZREM', WAITING, ARGV[1])
redis.call('ZREM', SEEN, ARGV[1])
if redis.call('ZREM', PERMITS, ARGV[1]) == 1 then
  tell_next()
end
return 1
