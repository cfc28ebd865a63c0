-- Lets a call begin that has no step of its own; stands after admission.lua.
--
-- KEYS  those of its needs
-- ARGV  its needs (admission.lua)
-- Returns what `admit` does.

return admit(1, 1)
