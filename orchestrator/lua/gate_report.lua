-- Tells how a call ended that a gate let through; stands after gate_leave.lua.
--
-- KEYS  1 gate
-- ARGV  1 what `gate_leave` is given, in words

return gate_leave(KEYS[1], words(ARGV[1]))
