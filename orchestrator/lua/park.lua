-- Ends an attempt that needs decisions: running -> waiting, or cancelled when a cancel
-- was asked for.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then 6 lease, 7 running time (ms), 8 reason, 9 event data (JSON),
--       10 how many outcomes are unknown, 11.. step key, awaited call (JSON) and time
--       (ms) after which it is refused, or '', of each decision
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

add_running(ARGV[7])
redis.call('HSET', RECORD, 'released_fence', ARGV[6])
if get('cancel_requested_ms') then
  return {'parked', end_task('cancelled', cancelled_data())}
end
local bells = leave_ship()
move('waiting')
count('released decision ' .. get('agent'), 1)
leave_lease()
redis.call('HSET', RECORD, 'pending_reason', ARGV[8],
  'awaited', text((#ARGV - 10) / 3))
redis.call('HDEL', RECORD, 'decided')
redis.call('HINCRBY', RECORD, 'unknown_outcomes', ARGV[10])
local first = get_number('deadline_at_ms')
for i = 11, #ARGV, 3 do
  redis.call('HSET', RECORD, 'await:' .. ARGV[i], ARGV[i + 1])
  if ARGV[i + 2] ~= '' then
    local lapses = NOW + tonumber(ARGV[i + 2])
    redis.call('HSET', RECORD, 'lapse:' .. ARGV[i], text(lapses))
    first = math.min(first or lapses, lapses)
  end
end
if first then
  look_at(first)
end
append_event('task.waiting', ARGV[9])
return {'parked', bells}
