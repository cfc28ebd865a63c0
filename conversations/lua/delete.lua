-- Deletes a conversation and leaves a tombstone.
-- KEYS: append_keys. ARGV: names this call (so that a repeat is known), seconds that the
--   tombstone stays.
-- Returns 1 when it was there, else 0. Works on a full Redis: the first write frees.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return redis.call('GET', KEYS[6]) == ARGV[1] and 1 or 0
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('ZREM', KEYS[7], string.match(KEYS[1], '([^:]+)$'))
redis.call('SET', KEYS[6], ARGV[1], 'EX', ARGV[2])
return 1
