-- Replaces the metadata.
-- KEYS: append_keys. ARGV: metadata JSON.
-- Returns nil when there is no conversation, else the head's fields and values.
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
redis.call('HSET', KEYS[1], 'metadata', ARGV[1])
conversation_touch(KEYS, conversation_now_ms())
return redis.call('HGETALL', KEYS[1])
