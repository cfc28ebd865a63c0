-- Reads the messages of a turn.
-- KEYS: append_keys. ARGV: turn.
-- Returns nil when there is no conversation, else rows as read.lua does.
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local first = redis.call('HGET', KEYS[3], 'turn:' .. ARGV[1])
return first and conversation_stored_turn(KEYS, ARGV[1], first) or {}
