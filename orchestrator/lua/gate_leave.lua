-- Takes a call that is over out of a gate; stands after gate.lua.

-- Gives a permit back, settles its tokens, and notes what the call says of the endpoint.
--
-- left  1 token, or '-' for a call without a permit   2 part of its grant
--       3 tokens counted   4 tokens taken, or '-'   5 outcome
--       6 wait that the endpoint asks for (ms), or '-'
--
-- The second call with a token changes nothing. A permit whose lease ran out is settled
-- once more at most: soon it is no longer there.
local function gate_leave(key, left)
  at_gate(key)
  local TOKEN, OUTCOME = left[1], left[5]

  local held = TOKEN == '-' or redis.call('ZREM', PERMITS, TOKEN) == 1
  if not held then
    return 0
  end
  local field = 't' .. left[2]
  local more = (tonumber(left[4]) or tonumber(left[3])) - tonumber(left[3])
  if more ~= 0 then
    local tokens = redis.call('HINCRBY', WINDOW, field, text(more))
    if tokens ~= more or redis.call('HEXISTS', WINDOW, 'r' .. left[2]) == 1 then
      redis.call('HINCRBY', STATE, 'w_tokens', text(more))
    else -- the part has left the window
      redis.call('HDEL', WINDOW, field)
    end
  end

  if OUTCOME == 'answered' then
    redis.call('HDEL', STATE, 'failures', 'probe_ms', 'closed_ms', 'step_ms')
  elseif OUTCOME ~= 'unknown' and not trouble_for() then
    redis.call('HDEL', STATE, 'failures', 'step_ms')
    redis.call('HSET', STATE, 'closed_ms', AT)
  end
  if OUTCOME == 'unavailable' then
    redis.call('HINCRBY', STATE, 'failures', 1)
    redis.call('HSET', STATE, 'probe_ms', text(NOW + PROBE_MS))
  end
  local wait = tonumber(left[6]) or 0
  if OUTCOME == 'refused' then
    local step = math.min(number('step_ms') or FIRST_COOL_MS, LONGEST_COOL_MS)
    if wait <= 0 then
      wait = step
      if NOW >= (number('cool_ms') or 0) then
        redis.call('HSET', STATE, 'step_ms', text(step * 2))
      end
    end
  end
  if wait > 0 then
    redis.call('HSET', STATE, 'cool_ms', text(math.max(number('cool_ms') or 0, NOW + wait)))
  end
  if OUTCOME == 'refused' or OUTCOME == 'unavailable' then
    redis.call('HSET', STATE, 'trouble_ms', text(math.max(NOW, number('cool_ms') or 0)))
  end
  if wait > 0 or OUTCOME == 'refused' or OUTCOME == 'unavailable' then
    keep_keys()
  end
  tell_next()
  return 1
end
