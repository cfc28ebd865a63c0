-- Ends an attempt without ending the task: running -> pending, or cancelled when a
-- cancel was asked for.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 lease, 7 running time (ms), 8 delay (ms), 9 reason,
--       10 failure (JSON) or '', 11 event data (JSON)
-- Returns {'released', doorbells} or {'lost'}.

if get('released_fence') == ARGV[6] and was_claimed_by(ARGV[6], 'pending') then
  return {'released', get_number('due_ms') <= NOW and {doorbell(TASK_ID)} or {}}
end
if get('status') == 'cancelled' and get('released_fence') == ARGV[6] then
  return {'released', wake_next_turn()}
end
if not holds_lease(ARGV[6]) then
  return {'lost'}
end

add_running(ARGV[7])
redis.call('HSET', RECORD, 'released_fence', ARGV[6])
if ARGV[10] ~= '' then
  redis.call('HINCRBY', RECORD, 'failed_attempts', 1)
  redis.call('HSET', RECORD, 'failure', ARGV[10])
  redis.call('HDEL', RECORD, 'resumes')
else
  redis.call('HSET', RECORD, 'resumes', '1')
end
if get('cancel_requested_ms') then
  return {'released', end_task('cancelled', cancelled_data())}
end
local bells = leave_ship()
move('pending')
local cause = ARGV[10] ~= '' and 'failure' or tonumber(ARGV[8]) > 0 and 'wait' or 'hand_over'
count('released ' .. cause .. ' ' .. get('agent'), 1)
leave_lease()
redis.call('HSET', RECORD, 'pending_reason', ARGV[9])
append_event('task.released', ARGV[11])
return {'released', join(bells, make_due(tonumber(ARGV[8])))}
