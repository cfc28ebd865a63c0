-- What every budget script shares; it changes nothing by itself. Stands after basics.lua.
--
-- An account is a hash: tokens, micros, and open:<token> for each reservation; that of a
-- day is the key with ':<days since 1970>' added, one that is of no day is a task's and
-- stands beside its record.

local function account(key, daily, day)
  return daily == '1' and key .. ':' .. text(day) or key
end

local function today()
  return math.floor(NOW / 86400000)
end
