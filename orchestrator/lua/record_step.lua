-- Writes a finished step and its events, and marks the completion that follows at once as
-- begun.
--
-- KEYS  task.lua's, then those of the dues
-- ARGV  task.lua's, then 6 lease, 7 key of the completion that follows or '', 8 its start
--       (JSON), 9 dues of the step's call (dues.lua), 10.. the step (steps.lua)
-- Dues that cannot be paid, to a damaged account say, keep no step from being recorded: its
-- call would be made and paid for again. What was reserved then counts as spent.
-- Returns {'recorded', entry, doorbells, how many messages wait for the run}, with a
-- completion that follows also what start_step returns of it, or {'lost'}.

pcall(pay, ARGV[9], 2)
local known = known_at_step(ARGV[6])
if not known then
  return {'lost'}
end
local answer = {'recorded', write_step(from_place(ARGV, 10), known), {}, 0}
redis.call('HSET', RECORD, 'steps', text(known.steps), 'events', text(known.events))
if known.suspect then
  answer[3] = leave_ship(true)
end
if known.conversation then
  answer[4] = redis.call('LLEN', RECORD .. ':inbox')
end
if ARGV[7] ~= '' then
  answer[5] = begin_step(ARGV[7], '1', ARGV[8])
  answer[6] = redis.call('EXISTS', RECORD .. ':watched')
end
return answer
