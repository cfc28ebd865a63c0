-- Appends messages, or none.
-- KEYS: append_keys. ARGV: append_arguments.
-- Returns {'ok', rows} or {the refusal}; a row is {seq, turn, at, message JSON}.
local refusal = conversation_append_check(KEYS, ARGV)
if refusal then return {refusal} end
return {'ok', conversation_append_write(KEYS, ARGV, conversation_now_ms())}
