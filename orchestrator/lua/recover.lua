-- Takes back an expired lease: the run's worker has vanished, or its loop stood still.
--
-- Who is charged: a suspect, when its process died with it; then the other runs of the
-- process are innocent. Else every run of it becomes a suspect, uncharged. When the
-- process itself gave up its leases it has named the run whose callback blocked it.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 crashes after which a task is failed
-- Returns {'recovered' | 'ended' | 'nothing', doorbells}.

if get('status') ~= 'running' then
  redis.call('ZREM', LEASES, MEMBER)
  return {'nothing', {}}
end
local lease_until = get_number('lease_until_ms')
if lease_until > NOW then
  return {'nothing', {}}
end

local held = math.max(0, lease_until - get_number('claimed_ms'))
local running = redis.call('HINCRBY', RECORD, 'running_ms', text(held))
count('released lease_lost ' .. get('agent'), 1)
if get('cancel_requested_ms') then
  return {'ended', end_task('cancelled', cancelled_data())}
end

local function judge()
  local worker = get('worker')
  if get('surrendered') == get('attempt') then
    return get('blamed') == get('attempt') and 'charged' or 'innocent'
  elseif get('suspect') then
    redis.call('SET', in_fleet('aboard', worker), 'crashed ' .. text(lease_until),
      'PX', text(MAX_RESEND * 10))
    return 'charged'
  end
  local suspect, crashed_at = aboard(worker)
  if suspect or (crashed_at and get_number('claimed_ms') <= crashed_at) then
    return 'innocent'
  end
  return 'suspect'
end

local verdict = judge()
local crashes = get_number('crashes') or 0
if verdict == 'charged' then
  crashes = redis.call('HINCRBY', RECORD, 'crashes', 1)
end
redis.call('ZREM', in_fleet('aloud', get('queue')), MEMBER)
local deadline, limit = get_number('deadline_at_ms'), get_number('time_limit_ms')
local status, code, message
if deadline and deadline <= NOW then
  status, code = 'timed_out', 'deadline'
  message = 'the deadline passed while the run had no worker; raise deadline'
elseif limit and limit <= running then
  status, code = 'timed_out', 'time_limit'
  message = 'the time limit passed and the worker vanished; raise time_limit'
elseif crashes >= tonumber(ARGV[6]) then
  status, code = 'failed', 'crash_loop'
  message = 'it took its worker down ' .. text(crashes)
    .. ' times; look for what kills the worker process, then submit again'
end
if status then
  count_run(status, code)
  return {'ended', end_with_failure(status, code, message)}
end
move('pending')
leave_due_and_leases()
if verdict ~= 'innocent' then
  redis.call('HSET', RECORD, 'suspect', '1')
end
redis.call('HSET', RECORD, 'pending_reason', 'its worker vanished')
append_event('task.released', '{"reason":"its worker vanished"}')
return {'recovered', make_due(0)}
