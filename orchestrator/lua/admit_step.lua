-- Lets a completion begin and marks its step as begun, or does neither.
--
-- KEYS  task.lua's, then those of its needs
-- ARGV  task.lua's, then 6 lease, 7 step key, 8 start (JSON), 9 and 10 needs (admission.lua)
-- Returns {'held', what `admit_call` does}, followed by what start_step returns of the mark
-- when it is admitted, or {'lost'}.

if not holds_lease(ARGV[6]) then
  return {'lost'}
end
local answer = admit_call(9, 2, TENANT, MEMBER)
if answer[1] == 'admitted' then
  return {'held', answer, begin_step(ARGV[7], '1', ARGV[8]),
    redis.call('EXISTS', RECORD .. ':watched')}
end
return {'held', answer}
