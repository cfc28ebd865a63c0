-- What every budget script shares; it changes nothing by itself.
--
-- ARGV  each script's own
-- KEYS  one account each (hash: tokens, micros, and open:<token> for each reservation);
--       that of a day is the key with ':<days since 1970>' added
--
-- `DAY` is the day of the call unless the script sets another.

local CLOCK = redis.call('TIME')
local TODAY = math.floor(tonumber(CLOCK[1]) / 86400)

local function account(index, daily, day)
  return daily == '1' and KEYS[index] .. ':' .. string.format('%.0f', day) or KEYS[index]
end

local function amount(key, name)
  return tonumber(redis.call('HGET', key, name) or '0')
end
