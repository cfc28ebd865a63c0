-- Adds a batch of events to the log of a run, and keeps what a completion has said so far.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 lease, 7 token of the batch, 8 key of the completion or '',
--       9 its text, 10.. type and data of events
-- Returns {'appended'} or {'lost'}. A batch that is repeated soon adds nothing.

local REMEMBERED = 512

if not holds_lease(ARGV[6]) then
  return {'lost'}
end
local recent = get('recent_batches') or ''
if not string.find(recent, ARGV[7], 1, true) then
  redis.call('HSET', RECORD, 'recent_batches', string.sub(recent .. ARGV[7], -REMEMBERED))
  append_events(10)
  if ARGV[8] ~= '' and get('conversation') and not is_finished(redis.call('HGET', JOURNAL, ARGV[8])) then
    redis.call('HSET', RECORD .. ':saying', 'key', ARGV[8], 'text', ARGV[9])
  end
end
return {'appended'}
