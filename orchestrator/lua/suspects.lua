-- Who is to blame when a process dies; comes after dispatch.lua.
--
-- A run whose process died is a suspect until it records a step. Most processes die for
-- another reason than a run, so suspects run at once and together. One whose process died
-- again is a prime suspect: a process holds one of those at a time.
--   _fleet:crowd:<worker>   set, the suspects that a worker runs
--   _fleet:aboard:<worker>  'aboard <member> <fence>': the prime suspect that it runs, or
--                           'crashed <instant> <verdict>' once it has died: who of those
--                           it ran is to blame (a member, 'many' suspects or 'none')
-- KEYS and ARGV are task.lua's.

local function aboard(worker)
  local value = redis.call('GET', in_fleet('aboard', worker))
  local member, fence = string.match(value or '', '^aboard (%S+ %S+) (%d+)$')
  if not member then
    return nil
  end
  local facts = redis.call('HMGET', record_of(member), 'status', 'attempt', 'suspect')
  return facts[1] == 'running' and facts[2] == fence and facts[3] == PRIME and member
end

local function take_aboard(worker)
  if get('suspect') == SUSPECT then
    local crowd = in_fleet('crowd', worker)
    redis.call('SADD', crowd, MEMBER)
    redis.call('PEXPIRE', crowd, text(MAX_RESEND * 100))
    return
  end
  redis.call('SET', in_fleet('aboard', worker),
    'aboard ' .. MEMBER .. ' ' .. get('attempt'), 'PX', text(MAX_RESEND * 100))
  redis.call('ZADD', in_fleet('aloud', get('queue')), text(NOW + SUSPECT_PATIENCE), MEMBER)
end

-- The run is above suspicion, or ends its attempt; returns the next suspects' bells.
local function leave_ship(cleared)
  local degree, worker = get('suspect'), get('worker')
  if not degree then
    return {}
  end
  if cleared then
    redis.call('HDEL', RECORD, 'suspect')
  end
  if degree == SUSPECT then
    redis.call('SREM', in_fleet('crowd', worker), MEMBER)
    return {}
  end
  if aboard(worker) == MEMBER then
    redis.call('DEL', in_fleet('aboard', worker))
  end
  redis.call('ZREM', in_fleet('aloud', get('queue')), MEMBER)
  return refill(get('queue'))
end

-- Who is to blame for the death of a worker that held leases until `instant`. The first
-- of its runs that is taken back decides for all that it ran then.
local function verdict_on(worker, instant, claimed_at)
  local value = redis.call('GET', in_fleet('aboard', worker)) or ''
  local crashed_at, verdict = string.match(value, '^crashed (%d+) (.+)$')
  if crashed_at and claimed_at <= tonumber(crashed_at) then
    return verdict
  end
  local crowd = redis.call('SMEMBERS', in_fleet('crowd', worker))
  verdict = aboard(worker) or (#crowd == 1 and crowd[1]) or (#crowd > 1 and 'many') or 'none'
  redis.call('SET', in_fleet('aboard', worker), 'crashed ' .. text(instant) .. ' ' .. verdict,
    'PX', text(MAX_RESEND * 10))
  return verdict
end
