-- Pays what a step's call owes; stands after the functions that it calls.
--
-- KEYS  behind the script's own, in the order of the dues
-- ARGV  the script's own; among them the dues: '' for none, else two lines of words, what
--       gate_leave and what budget_settle is given, or '' where nothing is owed there
--
-- They do not hang on the fence: the call was made, whoever holds the task now.

local function pay(dues, first_key)
  local left, settled = string.match(dues, '^(.*)\n(.*)$')
  if not left then
    return
  end
  if left ~= '' then
    gate_leave(KEYS[first_key], words(left))
    first_key = first_key + 1
  end
  if settled ~= '' then
    budget_settle({unpack(KEYS, first_key)}, words(settled))
  end
end
