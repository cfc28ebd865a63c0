-- Takes back an expired lease: the run's worker has vanished, or its loop stood still.
--
-- Who is charged: the only prime suspect aboard, else the only suspect; then the other runs
-- of the process are innocent. Of several, each becomes a prime suspect in smaller company,
-- and where there was none every run becomes a suspect, uncharged. A process that itself
-- gave up its leases has named the run whose callback blocked it.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 crashes after which a task is failed
-- Returns {'recovered' | 'ended' | 'nothing', doorbells}.

if not is_record() or get('status') ~= 'running' then
  redis.call('ZREM', LEASES, MEMBER)
  return {'nothing', {}}
end
local lease_until = get_number('lease_until_ms')
if lease_until > NOW then
  return {'nothing', {}}
end

local held = math.max(0, lease_until - get_number('claimed_ms'))
local running = add_running(text(held))
if get('cancel_requested_ms') then
  return {'ended', end_task('cancelled', cancelled_data())}
end

-- Returns whether it is charged, how suspect it is from now on, and in which company.
local function judge()
  local degree, company = get('suspect'), get('company')
  if get('surrendered') == get('attempt') then
    if get('blamed') == get('attempt') then
      return true, PRIME, '1'
    end
    return false, degree, company
  end
  local verdict = verdict_on(get('worker'), lease_until, get_number('claimed_ms'))
  local guilty, size = string.match(verdict, '^(%a+) (%d+)$')
  if verdict == 'one ' .. MEMBER then
    return true, PRIME, '1'
  elseif (guilty == 'crowd' and degree) or (guilty == 'primes' and degree == PRIME) then
    return false, PRIME, text(math.max(1, math.floor(tonumber(size) / 8)))
  end
  return false, degree or (verdict == 'none' and SUSPECT), company
end

local charged, degree, company = judge()
local crashes = get_number('crashes') or 0
if charged then
  crashes = redis.call('HINCRBY', RECORD, 'crashes', 1)
end
redis.call('ZREM', in_fleet('aloud', get('queue')), MEMBER)
redis.call('SREM', in_fleet('crowd', get('worker')), MEMBER)
redis.call('SREM', in_fleet('primes', get('worker')), MEMBER .. ' ' .. get('attempt'))
local deadline, limit = get_number('deadline_at_ms'), get_number('time_limit_ms')
local status, code, message
if deadline and deadline <= NOW then
  status, code = 'timed_out', 'deadline'
  message = 'the deadline passed and the worker vanished or its event loop was blocked;'
    .. ' raise deadline'
elseif limit and limit <= running then
  status, code = 'timed_out', 'time_limit'
  message = 'the time limit passed and the worker vanished or its event loop was blocked;'
    .. ' raise time_limit'
elseif crashes >= tonumber(ARGV[6]) then
  status, code = 'failed', 'crash_loop'
  message = 'it took its worker down ' .. text(crashes)
    .. ' times; look for what kills the worker process, then submit again'
end
if status then
  count_run(status, code, get('agent'))
  return {'ended', end_with_failure(status, code, message)}
end
move('pending')
count('released lease_lost ' .. get('agent'), 1)
leave_lease()
if degree then
  redis.call('HSET', RECORD, 'suspect', degree, 'company', company or '1')
end
redis.call('HSET', RECORD, 'pending_reason', 'its worker vanished', 'resumes', '1')
append_event('task.released', '{"reason":"its worker vanished"}')
return {'recovered', make_due(0)}
