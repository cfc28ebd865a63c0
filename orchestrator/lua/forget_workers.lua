-- Forgets workers that have vanished, whether or not another one is ever announced.
-- Stands after slots.lua.
--
-- KEYS  1 workers by their end (zset), 2 each worker's slots and queues (hash),
--       3 live slots by queue (hash)
-- Returns {'forgotten', no doorbells}.

forget_gone(KEYS[1], KEYS[2], KEYS[3])
return {'forgotten', {}}
