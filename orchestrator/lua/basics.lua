-- What most scripts need; it changes nothing by itself.

local CLOCK = redis.call('TIME')
local NOW = tonumber(CLOCK[1]) * 1000 + math.floor(tonumber(CLOCK[2]) / 1000)

-- A whole number as Redis and our readers take it: Lua's own way ends at 14 digits.
local function text(number)
  return string.format('%d', number)
end

-- What stands between the spaces of an argument. A number that is an argument of its own
-- costs client and server as much as ten of these.
local function words(argument)
  local list = {}
  for word in string.gmatch(argument, '%S+') do
    list[#list + 1] = word
  end
  return list
end
