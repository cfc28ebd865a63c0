-- Ends an attempt that needs decisions: running -> waiting, or cancelled when a cancel
-- was asked for.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 lease, 7 running time (ms), 8 reason, 9 event data (JSON),
--       10 how many outcomes are unknown, 11.. field and awaited call (JSON) of each
--       decision
-- Returns {'parked', doorbells} or {'lost'}.

if get('released_fence') == ARGV[6] then
  if was_claimed_by(ARGV[6], 'waiting') then
    return {'parked', {}}
  elseif was_claimed_by(ARGV[6], 'cancelled') then
    return {'parked', wake_next_turn()}
  end
end
if not holds_lease(ARGV[6]) then
  return {'lost'}
end

redis.call('HINCRBY', RECORD, 'running_ms', ARGV[7])
redis.call('HSET', RECORD, 'released_fence', ARGV[6])
if get('cancel_requested_ms') then
  return {'parked', end_task('cancelled', cancelled_data())}
end
local bells = leave_ship()
move('waiting')
count('released decision ' .. get('agent'), 1)
leave_due_and_leases()
redis.call('HSET', RECORD, 'pending_reason', ARGV[8],
  'awaited', text((#ARGV - 10) / 2))
redis.call('HINCRBY', RECORD, 'unknown_outcomes', ARGV[10])
for i = 11, #ARGV, 2 do
  redis.call('HSET', RECORD, ARGV[i], ARGV[i + 1])
end
if get('deadline_at_ms') then
  look_at(get_number('deadline_at_ms'))
end
append_event('task.waiting', ARGV[9])
return {'parked', bells}
