-- Removes an ended task whose time has come. Needs no task.lua.
--
-- KEYS  1 record, 2 event log, 3 journal, 4 ended tasks to forget (zset), 5.. listings
-- ARGV  1 member ('tenant id'), 2 task id

redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
for i = 5, #KEYS do
  redis.call('ZREM', KEYS[i], ARGV[2])
end
redis.call('ZREM', KEYS[4], ARGV[1])
return {}
