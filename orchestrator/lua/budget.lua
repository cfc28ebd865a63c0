-- What every budget script shares; it changes nothing by itself.
--
-- ARGV  each script's own
-- KEYS  one account each (hash: tokens, micros, and open:<token> for each reservation);
--       that of a day is the key with ':<days since 1970>' added

local function text(number)
  return string.format('%.0f', number)
end

local function account(index, daily, day)
  return daily == '1' and KEYS[index] .. ':' .. text(day) or KEYS[index]
end

local TODAY = math.floor(tonumber(redis.call('TIME')[1]) / 86400)
