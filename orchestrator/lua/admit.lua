-- Lets a call begin that has no step of its own; stands after admission.lua.
--
-- KEYS  those of its needs
-- ARGV  1 and 2 its needs (admission.lua)   3 tenant   4 task
-- Returns what `admit_call` does.

return admit_call(1, 1, ARGV[3], ARGV[4])
