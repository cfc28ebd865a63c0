-- What a call that serves many tasks writes once for all of them; comes first of all.
--
-- Between gather() and settle() (settling.lua) places in sorted sets and counts are kept
-- here instead of written. Whoever reads them in between must settle before.
-- ARGV has no place 0: each call begins with nothing gathered.

local gathered = ARGV[0]

local function gather()
  gathered = {entered = {}, left = {}, counts = {}, unfinished = {}, successes = {}, taken = {}}
end

-- Puts a member in its place.
local function enter(key, score, member)
  local list = gathered and gathered.entered[key]
  if list then
    local last = #list
    list[last + 1], list[last + 2] = score, member
  elseif gathered then
    gathered.entered[key] = {score, member}
  else
    redis.call('ZADD', key, score, member)
  end
end

local function leave(key, member)
  local list = gathered and gathered.left[key]
  if list then
    list[#list + 1] = member
  elseif gathered then
    gathered.left[key] = {member}
  else
    redis.call('ZREM', key, member)
  end
end
