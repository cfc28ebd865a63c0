-- Writes a finished step and its events, and marks the completion that follows at once as
-- begun.
--
-- KEYS  task.lua's, then those of the dues
-- ARGV  task.lua's, then 6 lease, 7 key of the completion that follows or '', 8 its start
--       (JSON), 9 dues of the step's call (dues.lua), 10.. the step (steps.lua)
-- Returns {'recorded', entry, doorbells, how many messages wait for the run}, with a
-- completion that follows also what start_step returns of it, or {'lost'}.

pay(ARGV[9], 2)
if not holds_lease(ARGV[6]) then
  return {'lost'}
end
local entry = write_step(from_place(ARGV, 10), fence_of(ARGV[6]))
local answer = {'recorded', entry, leave_ship(true), redis.call('LLEN', RECORD .. ':inbox')}
if ARGV[7] ~= '' then
  answer[5] = begin_step(ARGV[7], '1', ARGV[8])
  answer[6] = redis.call('EXISTS', RECORD .. ':watched')
end
return answer
