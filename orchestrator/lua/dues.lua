-- Pays what a step's call owes; stands after the functions that it calls.
--
-- KEYS  behind the script's own, in the order of the dues
-- ARGV  the script's own; among them how many dues there are, then for each: its
--       script, how many keys, how many arguments, and the arguments
--
-- They do not hang on the fence: the call was made, whoever holds the task now.

local PAYING = {gate_leave = gate_leave, budget_settle = budget_settle}

-- Returns the place behind the dues.
local function pay(place, first_key)
  local count = tonumber(ARGV[place])
  place = place + 1
  for _ = 1, count do
    local keys, arguments = tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2])
    PAYING[ARGV[place]](
      {unpack(KEYS, first_key, first_key + keys - 1)},
      {unpack(ARGV, place + 3, place + 2 + arguments)})
    first_key, place = first_key + keys, place + 3 + arguments
  end
  return place
end
