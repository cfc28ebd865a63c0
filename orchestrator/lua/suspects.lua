-- Who is to blame when a process dies; comes after dispatch.lua.
--
-- A run whose process died is a suspect until it records a step. Most processes die for
-- another reason than a run, so suspects run at once and together. Those whose process died
-- again are prime suspects, and go on in ever smaller company: an eighth of those that
-- came down together, one at a time in the end.
--   company (record)        how many prime suspects may be aboard with this one; 1 if absent
--   _fleet:crowd:<worker>   set, the suspects that a worker runs
--   _fleet:primes:<worker>  set, '<member> <fence>': the prime suspects that it runs
--   _fleet:crashed:<worker> '<instant> <verdict>', once it has died: who of those that it
--                           ran is to blame: 'one <member>', one of so many suspects
--                           ('crowd <n>') or prime ones ('primes <n>'), or 'none'
-- KEYS and ARGV are task.lua's.

-- The prime suspects that a worker runs: {member, the company that it may be in}.
local function primes_aboard(worker)
  local key, primes = in_fleet('primes', worker), {}
  for _, entry in ipairs(redis.call('SMEMBERS', key)) do
    local member, fence = string.match(entry, '^(%S+ %S+) (%d+)$')
    local facts = redis.pcall('HMGET', record_of(member or ''), 'status', 'attempt',
      'suspect', 'company')
    if facts[1] == 'running' and facts[2] == fence and facts[3] == PRIME then
      primes[#primes + 1] = {member, tonumber(facts[4] or nil) or 1}
    else
      redis.call('SREM', key, entry)
    end
  end
  return primes
end

-- Whether a worker may take this prime suspect to those that it runs.
local function has_berth(worker)
  local primes, berths = primes_aboard(worker), get_number('company') or 1
  for _, prime in ipairs(primes) do
    berths = math.min(berths, prime[2])
  end
  return #primes < berths
end

local function take_aboard(worker)
  local is_prime = get('suspect') == PRIME
  local key = in_fleet(is_prime and 'primes' or 'crowd', worker)
  redis.call('SADD', key, is_prime and MEMBER .. ' ' .. get('attempt') or MEMBER)
  redis.call('PEXPIRE', key, text(MAX_RESEND * 100))
  if is_prime then
    redis.call('ZADD', in_fleet('aloud', get('queue')), get('lease_until_ms'), MEMBER)
  end
end

-- A prime suspect met a worker that has no berth for it. One that may be in company is
-- not rung for again at once: the next bell may well reach the same worker.
local function stand_back()
  local queue = get('queue')
  redis.call('ZADD', in_fleet('suspects', queue), AT, MEMBER)
  if (get_number('company') or 1) > 1 then
    redis.call('ZADD', in_fleet('aloud', queue), text(NOW + REFUSED_PATIENCE), MEMBER)
  else
    redis.call('ZREM', in_fleet('aloud', queue), MEMBER)
  end
end

-- The run is above suspicion, or ends its attempt; returns the next suspects' bells.
local function leave_ship(cleared)
  local degree = get('suspect')
  if not degree then
    return {}
  end
  local worker = get('worker')
  if cleared then
    redis.call('HDEL', RECORD, 'suspect', 'company')
  end
  if degree == SUSPECT then
    redis.call('SREM', in_fleet('crowd', worker), MEMBER)
    return {}
  end
  redis.call('SREM', in_fleet('primes', worker), MEMBER .. ' ' .. get('attempt'))
  redis.call('ZREM', in_fleet('aloud', get('queue')), MEMBER)
  return refill(get('queue'))
end

-- Who is to blame for the death of a worker that held leases until `instant`. The first
-- of its runs that is taken back decides for all that it ran then.
local function verdict_on(worker, instant, claimed_at)
  local key = in_fleet('crashed', worker)
  local crashed_at, verdict = string.match(redis.call('GET', key) or '', '^(%d+) (.+)$')
  if crashed_at and claimed_at <= tonumber(crashed_at) then
    return verdict
  end
  local primes = primes_aboard(worker)
  local crowd = redis.call('SMEMBERS', in_fleet('crowd', worker))
  if #primes > 0 then
    verdict = #primes == 1 and 'one ' .. primes[1][1] or 'primes ' .. text(#primes)
  elseif #crowd > 0 then
    verdict = #crowd == 1 and 'one ' .. crowd[1] or 'crowd ' .. text(#crowd)
  else
    verdict = 'none'
  end
  redis.call('SET', key, text(instant) .. ' ' .. verdict, 'PX', text(MAX_RESEND * 10))
  return verdict
end
