-- Adds a piece of a history to a conversation that nobody sees yet.
-- KEYS: append_keys of the place where it is put together. ARGV: how long it may stay
--   unfinished (ms); then for each message as in create.lua. Safe to repeat.
for i = 2, #ARGV, 8 do
  if #redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i]) == 0 then
    conversation_add(KEYS, {
      seq = ARGV[i], turn = ARGV[i + 1], client = ARGV[i + 2], at = ARGV[i + 3],
      start = ARGV[i + 4] == '1', role = ARGV[i + 5], kind = ARGV[i + 6],
      body = ARGV[i + 7],
    })
  end
end
for i = 1, 5 do redis.call('PEXPIRE', KEYS[i], ARGV[1]) end
return {'ok'}
