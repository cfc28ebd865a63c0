-- Removes an ended task whose time has come, or at once when asked to; looks again, since another sweep may have
-- done it and a task of the same id may be new. Needs no task.lua.
--
-- KEYS  1 record, 2 event log, 3 journal, 4 ended tasks to forget (zset),
--       5 undelivered webhooks (zset), 6 logs that hold deltas (zset), 7.. listings
-- ARGV  1 member ('tenant id'), 2 task id, 3 '1' to remove it before its time,
--       4.. tasks that it waited for
-- Returns {'forgotten' | 'nothing'}.

local due = tonumber(redis.call('ZSCORE', KEYS[4], ARGV[1]) or nil)
if not due or (due > NOW and ARGV[3] ~= '1') then
  return {'nothing'}
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[1] .. ':budget')
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
for i = 7, #KEYS do
  redis.call('ZREM', KEYS[i], ARGV[2])
end
redis.call('ZREM', KEYS[4], ARGV[1])
-- Their end would let a new task of its id begin, whatever that waits for.
local records = string.sub(KEYS[1], 1, -#ARGV[2] - 1)
for i = 4, #ARGV do
  local run = redis.call('GET', records .. ARGV[i] .. ':joined')
  redis.call('SREM', records .. (run or ARGV[i]) .. ':then', ARGV[2])
end
return {'forgotten'}
