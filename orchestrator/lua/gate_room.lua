-- The room in the window that waiting calls are owed; stands after gate.lua.
--
-- As in EASY backfilling, the first of those who wait for tokens is owed what becomes
-- free: who comes behind it passes only where it still fits as early as without that. So is
-- the largest of the others, which would lose what it has waited for each time that a more
-- urgent one is the first.
--
-- State: owed, of each in order: task, order, tokens, how many tokens others may still take
-- without delaying it, since when it is owed that, and until when it is believed in.

-- Returns what is owed to calls that are believed in, none of a future that a clock set
-- back has left behind, and whether it is kept free for them; `written` may be missing.
local function read_owed(written, part_ms)
  local owed, kept_ms = {}, ROOM_WINDOWS * math.max((PARTS + 1) * part_ms, ROOM_MS)
  for to, order, tokens, left, since, till in string.gmatch(
    written or '', '(%S+ %S+) (%d+) (%d+) (%-?%d+) (%d+) (%d+);') do
    local age = NOW - tonumber(since)
    if tonumber(till) > NOW and age >= 0 then
      owed[#owed + 1] = {to = to, order = tonumber(order), tokens = tonumber(tokens),
        left = tonumber(left), since = tonumber(since), till = tonumber(till),
        is_kept = math.floor(age / kept_ms) % 2 == 0}
    end
  end
  return owed
end

local function write_owed(owed)
  local written = {}
  for i, each in ipairs(owed) do
    written[i] = string.format('%s %d %d %d %d %d;', each.to, each.order, each.tokens,
      each.left, each.since, each.till)
  end
  if #owed == 0 then
    redis.call('HDEL', STATE, 'owed')
  else
    redis.call('HSET', STATE, 'owed', table.concat(written))
  end
end

-- Returns whether a call fits into the room and delays nobody before it, how many tokens
-- those are owed, and the place of what it is owed itself, or nil.
local function fits_behind(owed, task, order, wanted, room, fits)
  local before = 0
  for i, each in ipairs(owed) do
    if each.to == task then
      return fits, before, i
    elseif each.is_kept and each.order <= order then
      before = before + each.tokens
      fits = fits and wanted <= math.max(each.left, room - before)
    end
  end
  return fits, before
end

-- Returns when so many tokens fit into the window, and how many more do then.
local function room_at(wanted, most, part_ms)
  local _, left, _, parts = count_window(part_ms)
  table.sort(parts, function(a, b) return a.begins < b.begins end)
  local at = NOW
  for _, part in ipairs(parts) do
    if left == 0 or left + wanted <= most then
      break
    end
    left = left - part.tokens
    at = part.begins + (PARTS + 1) * part_ms
  end
  return at, most - wanted - left
end

-- Keeps what a waiting call is owed until then: what it waits for (nil if not for tokens)
-- in place of what stands at `own`. Returns whether it is owed anything.
local function keep_room(owed, own, waits_for, till)
  if not own and not waits_for then
    return false
  end
  local kept = waits_for or owed[own]
  kept.till = till
  if own then
    kept.order, kept.since = owed[own].order, owed[own].since
    owed[own] = kept
  else
    local place = #owed + 1
    while place > 1 and owed[place - 1].order > kept.order do
      place = place - 1
    end
    table.insert(owed, place, kept)
  end
  if #owed > MOST_OWED then -- the first stays, of the others the largest
    local smallest = 2
    for i = 3, #owed do
      if owed[i].tokens <= owed[smallest].tokens then
        smallest = i
      end
    end
    if table.remove(owed, smallest) == kept then
      return false
    end
  end
  write_owed(owed)
  return true
end

-- Takes a call that passes from what others are owed.
local function spend_room(owed, own, taken)
  if own then
    table.remove(owed, own)
  end
  for _, each in ipairs(owed) do
    each.left = each.left - taken
  end
  write_owed(owed)
end
