-- Extends the permits that are still held.
--
-- KEYS  gate.lua's
-- ARGV  1 lease (ms), 2.. tokens

for i = 2, #ARGV do
  redis.call('ZADD', PERMITS, 'XX', text(NOW + tonumber(ARGV[1])), ARGV[i])
end
return 1
