-- Deletes a conversation and leaves a tombstone.
-- KEYS: append_keys, then what exists while turns of it are unfinished, if that is known:
--   of the first one the conversation is not stored yet, and must not come into being.
-- ARGV: names this call (so that a repeat is known), seconds that the
--   tombstone stays, the message that it must end at, with no turn unfinished ('' any).
-- Returns 1 when it was deleted, there or awaited, else 0. Works on a full Redis: the first write frees.
if redis.call('EXISTS', KEYS[1]) == 0 then
  local tombstone = redis.call('GET', KEYS[6])
  if tombstone or ARGV[3] ~= '' or not KEYS[8] or redis.call('EXISTS', KEYS[8]) == 0 then
    return tombstone == ARGV[1] and 1 or 0
  end
elseif ARGV[3] ~= '' and (redis.call('HGET', KEYS[1], 'last_seq') ~= ARGV[3]
  or KEYS[8] and redis.call('EXISTS', KEYS[8]) == 1) then
  return 0
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('ZREM', KEYS[7], string.match(KEYS[1], '([^:]+)$'))
redis.call('SET', KEYS[6], ARGV[1], 'EX', ARGV[2])
return 1
