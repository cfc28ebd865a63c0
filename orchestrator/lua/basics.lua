-- What most scripts need; it changes nothing by itself.

local CLOCK = redis.call('TIME')
local NOW = tonumber(CLOCK[1]) * 1000 + math.floor(tonumber(CLOCK[2]) / 1000)

-- A whole number as Redis and our readers take it: Lua's own way ends at 14 digits.
local function text(number)
  return string.format('%d', number)
end

local AT = text(NOW)

-- The tenant and the id that a member of a fleet-wide set names; nothing where it is not of
-- ours: an answer that holds what is no text can be read by nobody.
local function names_in(member)
  return string.match(member, '^([%w-][%w_-]*) ([%w-][%w_-]*)$')
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
