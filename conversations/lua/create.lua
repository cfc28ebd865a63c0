-- Creates a conversation, with its history if there is one.
-- KEYS: append_keys, then those of the place where the history was put together, if it
--   came in pieces (load.lua). ARGV: creator (names this call, so that a repeat is known), config,
--   metadata, max_messages ('' all), ttl_ms ('' none), last seq, dropped, deleted, hidden
--   ('1' or ''), how many calls are open, the id of each; then for each message: seq,
--   turn, client id, at ('' now), start (1 or 0), role, kind, message JSON.
-- Returns {'ok', the head's fields and values} or {'taken'} or {'deleted'} or {'lost'}: of
-- the history that came in pieces some is no more.
if redis.call('EXISTS', KEYS[6]) == 1 then return {'deleted'} end
if redis.call('EXISTS', KEYS[1]) == 1 then
  if redis.call('HGET', KEYS[1], 'creator') ~= ARGV[1] then return {'taken'} end
  return {'ok', redis.call('HGETALL', KEYS[1])}
end
if KEYS[8] and redis.call('XLEN', KEYS[9]) ~= ARGV[6] - ARGV[7] - ARGV[8] then
  return {'lost'}
end
local now_ms = conversation_now_ms()
local marks = {}
if KEYS[8] then
  marks = redis.call('HMGET', KEYS[8], 'user_seq', 'summary_seq')
end
conversation_create(KEYS, {config = ARGV[2], metadata = ARGV[3], max_messages = ARGV[4],
  ttl_ms = ARGV[5], hidden = ARGV[9]}, now_ms)
redis.call('HSET', KEYS[1], 'creator', ARGV[1], 'last_seq', ARGV[6], 'dropped', ARGV[7],
  'deleted', ARGV[8])
for i = 9, #KEYS - 2 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('RENAME', KEYS[i], KEYS[i - 7])
    redis.call('PERSIST', KEYS[i - 7])
  end
end
if KEYS[8] then
  redis.call('HSET', KEYS[1], 'user_seq', marks[1] or '0', 'summary_seq', marks[2] or '0')
  redis.call('DEL', KEYS[8])
end
local first = 11 + tonumber(ARGV[10])
for i = 11, first - 1 do redis.call('SADD', KEYS[4], ARGV[i]) end
for i = first, #ARGV, 8 do
  conversation_add(KEYS, {
    seq = ARGV[i], turn = ARGV[i + 1], client = ARGV[i + 2],
    at = ARGV[i + 3] ~= '' and ARGV[i + 3] or now_ms,
    start = ARGV[i + 4] == '1', role = ARGV[i + 5], kind = ARGV[i + 6],
    body = ARGV[i + 7],
  })
end
conversation_retain(KEYS, ARGV[4])
conversation_touch(KEYS, now_ms)
return {'ok', redis.call('HGETALL', KEYS[1])}
