-- What every gate script shares; it changes nothing by itself. Stands after basics.lua and
-- the constants of gate.py (PARTS, WAITER_MS, ...).
--
-- A gate's keys: its state (hash), and beside it
--       :permits (zset: token -> lease end)        :places (hash: task -> order)
--       :waiting (zset: token -> order)            :window (hash: part -> count)
--       :seen (zset: waiter or place -> end)
-- Whoever waits or has a place is seen.
--
-- State: v, f:<tenant> (fair shares), cool_ms, step_ms, failures, probe_ms, closed_ms
-- (trouble since), trouble_ms (its last sign), w_part (present part and its length),
-- w_requests, w_tokens and w_oldest (sums of the window as of then), owed (gate_room.lua).
--
-- A part of a window is named by the instant (ms) at which it begins, so that workers
-- whose settings disagree on the window still count each other's calls.

local STATE, PERMITS, WAITING, SEEN, PLACES, WINDOW
local GATE_KEEP = 86400000
local UNSEEN_AT_ONCE = 100

-- Turns to a gate: what follows reads and changes that one.
local function at_gate(key)
  STATE, PERMITS, WAITING = key, key .. ':permits', key .. ':waiting'
  SEEN, PLACES, WINDOW = key .. ':seen', key .. ':places', key .. ':window'
end

local function number(name)
  return tonumber(redis.call('HGET', STATE, name) or nil)
end

-- Sums the window and forgets parts that have left it, that are of a future that a clock
-- set back has left behind, or no counts of ours. Returns requests, tokens, the oldest
-- part and the tokens of each part.
local function count_window(part_ms)
  local requests, tokens, oldest, parts = 0, 0, nil, {}
  local fields = redis.call('HGETALL', WINDOW)
  for i = 1, #fields, 2 do
    local kind, part = string.match(fields[i], '^([rt])(%d+)$')
    local begins, counted = tonumber(part or nil), tonumber(fields[i + 1])
    if not begins or begins <= NOW - part_ms * (PARTS + 1) or begins > NOW or not counted then
      redis.call('HDEL', WINDOW, fields[i])
    elseif kind == 'r' then
      requests = requests + counted
      oldest = math.min(oldest or begins, begins)
    else
      tokens = tokens + counted
      parts[#parts + 1] = {begins = begins, tokens = counted}
    end
  end
  return requests, tokens, oldest, parts
end

-- Forgets waiters and places whose time is over, a hundred at a time; returns how many.
local function forget_unseen()
  local late = redis.call('ZRANGEBYSCORE', SEEN, '-inf', AT, 'LIMIT', 0, UNSEEN_AT_ONCE)
  for _, gone in ipairs(late) do
    redis.call('ZREM', SEEN, gone)
    redis.call('ZREM', WAITING, gone)
    redis.call('HDEL', PLACES, gone)
  end
  return #late
end

-- Where there are too many shares of tenants, forgets those that make no difference; if
-- too many do, all are equal again. Returns what the gate has reached.
local function forget_shares(reached)
  if redis.call('HLEN', STATE) < MOST_SHARES then
    return reached
  end
  local fields, highest, old, all = redis.call('HGETALL', STATE), reached, {}, {}
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'f:' then
      local share = tonumber(fields[i + 1])
      all[#all + 1] = fields[i]
      if share <= reached then
        old[#old + 1] = fields[i]
      end
      highest = math.max(highest, share)
    end
  end
  if #all - #old > MOST_SHARES / 2 then
    old, reached = all, highest
    redis.call('HSET', STATE, 'v', text(reached))
  end
  for i = 1, #old, 1000 do
    redis.call('HDEL', STATE, unpack(old, i, math.min(i + 999, #old)))
  end
  return reached
end

-- Why nobody may pass, and for how long (ms); or nil.
local function closed(cool, failures, probe)
  if cool and cool > NOW then
    return 'cool_down', cool - NOW
  end
  if (failures or 0) >= FAILURES_TO_OPEN then
    return 'unavailable', math.max(0, (probe or 0) - NOW)
  end
end

-- For how long there has been trouble without one success, or nil; old trouble is
-- forgotten: without limits, nobody tells a gate of successes for ever.
local function trouble_for()
  local since, last = number('closed_ms'), number('trouble_ms')
  return since and last and NOW - last <= 120000 and NOW - since or nil
end

local function keep_keys()
  for _, key in ipairs({STATE, PERMITS, WAITING, SEEN, PLACES, WINDOW}) do
    redis.call('PEXPIRE', key, GATE_KEEP)
  end
end

-- Tells those who wait in front that it may be their turn.
local function tell_next()
  local next_ones = redis.call('ZRANGE', WAITING, 0, 2)
  if #next_ones > 0 then
    redis.pcall('PUBLISH', TURNS, table.concat(next_ones, ' '))
  end
end
