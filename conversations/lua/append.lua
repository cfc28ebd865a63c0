-- Appends messages, or none.
-- KEYS: append_keys. ARGV: append_arguments.
-- Returns {'ok', rows} or {the refusal, and its place and calls if it has them}; a row is
-- {seq, turn, at, message JSON}.
local plan = conversation_append_plan(KEYS, ARGV)
if plan.refused then
  local word, place, calls = unpack(plan.refused)
  return {word, place or 0, calls or 0}
end
local now_ms = conversation_now_ms()
local rows = conversation_append_rows(KEYS, plan, now_ms)
conversation_append_write(KEYS, ARGV, plan, now_ms)
return {'ok', rows}
