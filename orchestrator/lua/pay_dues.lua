-- Pays what a call owes that comes to no step of its own; stands after dues.lua.
--
-- KEYS  those of the dues
-- ARGV  1 the dues (dues.lua)

pay(ARGV[1], 1)
return 1
