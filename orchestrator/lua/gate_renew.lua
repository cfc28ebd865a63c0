-- Extends the permits that are still held.
--
-- KEYS  1 gate
-- ARGV  1 lease (ms), 2.. tokens

at_gate(KEYS[1])
redis.call('ZREMRANGEBYSCORE', PERMITS, '-inf', AT)
for i = 2, #ARGV do
  redis.call('ZADD', PERMITS, 'XX', text(NOW + tonumber(ARGV[1])), ARGV[i])
end
return 1
