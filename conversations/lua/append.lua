-- Appends messages, or none.
-- KEYS: append_keys. ARGV: append_arguments.
-- Returns {'ok', rows} or {the refusal, and its place and calls if it has them}; a row is
-- {seq, turn, at, message JSON}.
local refusal, place, calls = conversation_append_check(KEYS, ARGV)
if refusal then return {refusal, place or 0, calls or 0} end
return {'ok', conversation_append_write(KEYS, ARGV, conversation_now_ms())}
