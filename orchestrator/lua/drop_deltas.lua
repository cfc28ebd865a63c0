-- Drops the token deltas of an ended task's log; what else it holds keeps its numbers. The
-- log is written anew: a stream frees no memory for single entries. Looks again, since
-- another sweep may have done it and a task of the same id may be new. Needs no task.lua.
--
-- KEYS  1 event log, 2 ended tasks whose logs hold deltas (zset)
-- ARGV  1 member ('tenant id'), 2 how long after the end deltas are kept (ms)
-- Returns {'dropped' | 'nothing'}.

local ended = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or nil)
if not ended or ended + tonumber(ARGV[2]) > NOW then
  return {'nothing'}
end
redis.call('ZREM', KEYS[2], ARGV[1])
local entries, kept = redis.call('XRANGE', KEYS[1], '-', '+'), {}
for _, entry in ipairs(entries) do
  if not string.match(entry[2][2], '%.delta$') then
    kept[#kept + 1] = entry
  end
end
if #kept == #entries then
  return {'dropped'}
end
local left = redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
for _, entry in ipairs(kept) do
  redis.call('XADD', KEYS[1], entry[1], unpack(entry[2]))
end
if left > 0 then
  redis.call('PEXPIRE', KEYS[1], text(left))
end
return {'dropped'}
