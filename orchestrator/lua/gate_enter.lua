-- Lets a call through a gate; stands after gate_room.lua.

-- In which part a permit was granted that has not been renewed: who asks again for one does
-- not know it yet. Its tokens are counted there.
local function part_of_grant(lease_end, wish)
  local granted = lease_end - tonumber(wish[4])
  return granted - granted % tonumber(wish[8])
end

-- Grants a permit to a task, or a place among those who wait.
--
-- wish  1 token   2 priority   3 tokens   4 lease (ms)
--       5 in flight, 6 requests, 7 tokens at most (-1: no bound)   8 part (ms)
-- Returns {'permit', part} or {'wait', reason, ms, waiters, closed for (ms)}.
local function gate_enter(key, wish, tenant, TASK)
  at_gate(key)
  local TOKEN, SHARE = wish[1], 'f:' .. tenant
  local WANTED, MOST = tonumber(wish[3]), tonumber(wish[5])
  local MOST_REQUESTS, MOST_TOKENS = tonumber(wish[6]), tonumber(wish[7])
  local PART_MS = tonumber(wish[8])
  local PART = NOW - NOW % PART_MS

  local somebody = redis.call('EXISTS', SEEN) == 1
  if somebody then
    forget_unseen()
  end

  local facts = redis.call('HMGET', STATE, 'v', SHARE, 'cool_ms', 'failures', 'probe_ms',
    'w_part', 'w_requests', 'w_tokens', 'w_oldest', 'owed')
  local reached, share, cool, failures, probe = tonumber(facts[1] or nil),
    tonumber(facts[2] or nil), tonumber(facts[3] or nil), tonumber(facts[4] or nil),
    tonumber(facts[5] or nil)

  -- Start-time fair queueing: a tenant's next call is placed behind its last one, or
  -- where the gate is now, so that a flood of one tenant waits behind itself.
  local kept_place = somebody and tonumber(redis.call('HGET', PLACES, TASK) or nil)
  local place = kept_place or math.max(reached or 0, share or 0)

  -- Who comes while nobody waits need not stand in line to be the first of it.
  local rank, in_line = 0, somebody and redis.call('EXISTS', WAITING) == 1
  local score = (9 - tonumber(wish[2])) * 1e12 + place
  local order = text(score)
  if in_line then
    redis.call('ZADD', WAITING, order, TOKEN)
    rank = redis.call('ZRANK', WAITING, TOKEN)
  end

  -- The window is summed once in each of its parts; in between its sums are kept.
  local requests, tokens, oldest
  local part = text(PART) .. '/' .. wish[8]
  local is_new_part = facts[6] ~= part
  if is_new_part then
    reached = forget_shares(reached or 0)
    redis.call('ZREMRANGEBYSCORE', PERMITS, '-inf', AT)
    requests, tokens, oldest = count_window(PART_MS)
    redis.call('HSET', STATE, 'w_part', part, 'w_requests', text(requests),
      'w_tokens', text(tokens), 'w_oldest', text(oldest or PART))
  else
    requests, tokens, oldest = tonumber(facts[7]), tonumber(facts[8]), tonumber(facts[9])
  end

  -- A call that alone is larger than the limit fits when the window is empty.
  local most = MOST_TOKENS < 0 and math.huge or MOST_TOKENS
  local owed = read_owed(facts[10], PART_MS)
  local fits, before, own = fits_behind(owed, TASK, score, WANTED, most - tokens,
    tokens == 0 or tokens + WANTED <= most)

  local held = redis.call('ZCOUNT', PERMITS, '(' .. AT, '+inf')
  local free = MOST < 0 and math.huge or MOST - held
  local waits_for
  local reason, ms = closed(cool, failures, probe)
  if reason == 'unavailable' and ms == 0 and rank == 0 then
    redis.call('HSET', STATE, 'probe_ms', text(NOW + PROBE_MS))
    reason = nil
  elseif not reason then
    local left = MOST_REQUESTS < 0 and math.huge or MOST_REQUESTS - requests
    local leaves = (oldest or PART) + (PARTS + 1) * PART_MS - NOW
    if left <= 0 then
      reason, ms = 'requests', leaves
    elseif not fits then
      local at, more = room_at(before + WANTED, most, PART_MS)
      reason, ms = 'tokens', math.min(at > NOW and at - NOW or PART_MS, ROOM_MS)
      waits_for = {to = TASK, order = score, tokens = WANTED, left = more, since = NOW}
    elseif rank >= math.min(free, left) then
      reason, ms = 'in_flight', 20 * (1 + math.max(0, rank - math.max(free, 0)))
    end
  end

  local after = text(kept_place and share or place + 1)
  local lease_end = reason and tonumber(redis.call('ZSCORE', PERMITS, TOKEN) or nil)
  if lease_end and lease_end > NOW then -- a repeat
    if in_line then
      redis.call('ZREM', WAITING, TOKEN)
    end
    return {'permit', part_of_grant(lease_end, wish)}
  end
  if reason then
    ms = math.max(20, math.min(ms, reason == 'in_flight' and 1000 or ms))
    if not in_line then
      redis.call('ZADD', WAITING, order, TOKEN)
    end
    if not kept_place then
      redis.call('HSET', STATE, SHARE, after)
      redis.call('HSET', PLACES, TASK, text(place))
    end
    redis.call('ZADD', SEEN, text(NOW + PLACE_MS), TASK,
      text(NOW + ms + WAITER_MS), TOKEN)
    local waiters = redis.call('HLEN', PLACES)
    if keep_room(owed, own, waits_for, NOW + ms + ROOM_MS) then
      -- it comes back in time, whoever else does
      waiters = 0
    end
    keep_keys()
    return {'wait', reason, ms, waiters, trouble_for() or 0}
  end
  if in_line then
    redis.call('ZREM', WAITING, TOKEN)
  end
  if in_line or kept_place then
    redis.call('ZREM', SEEN, TOKEN, TASK)
    redis.call('HDEL', PLACES, TASK)
  end
  local ends = text(NOW + tonumber(wish[4]))
  if redis.call('ZADD', PERMITS, 'NX', ends, TOKEN) == 0 then -- a repeat, which is counted
    lease_end = tonumber(redis.call('ZSCORE', PERMITS, TOKEN))
    if lease_end <= NOW then
      redis.call('ZADD', PERMITS, ends, TOKEN)
    end
    return {'permit', part_of_grant(lease_end, wish)}
  end
  redis.call('HSET', STATE, 'v', text(math.max(reached or 0, place)), SHARE, after,
    'w_requests', text(requests + 1), 'w_tokens', text(tokens + WANTED))
  if facts[10] then
    spend_room(owed, own, WANTED)
  end
  redis.call('HINCRBY', WINDOW, 'r' .. text(PART), 1)
  redis.call('HINCRBY', WINDOW, 't' .. text(PART), WANTED)
  if is_new_part or requests == 0 then -- the window's key may be new
    keep_keys()
  elseif held == 0 then
    redis.call('PEXPIRE', PERMITS, GATE_KEEP)
  end
  return {'permit', PART}
end
