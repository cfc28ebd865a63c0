-- Ends tasks that have an answer and bring no conversation turn, each for itself: last step,
-- status, result, end event and health. What many share is written once.
--
-- KEYS  task.lua's (of no task)
-- ARGV  task.lua's (of no task), then of each task in words its id, fence, token, running
--       time (ms), '1' when partial and how many arguments its last step has that is not
--       recorded yet; result (JSON); event data; then these (steps.lua)
-- Returns for each {'finished', doorbells} or {'lost'}, or an error.

local are_bare, has_followers = false, true

local function finish(task)
  local id, lease, ran, partial = string.match(task.about, '^(%S+) (%S+ %S*) (%d+) ([01]) ')
  turn_to(id)
  local known = known_at_end()
  if known.status ~= 'running' or not is_lease(lease, known.attempt, known.claim_token) then
    if known.status == 'completed' and get('finished_fence') == lease then
      settle()
      return {'finished', wake_next_turn()}
    end
    return {'lost'}
  end
  check_listed(known.ordinal, known.agent) -- before what comes before the move
  if are_bare then
    known.most_keys = NO_JOURNAL
  end
  known.is_unfollowed = not has_followers or redis.call('EXISTS', RECORD .. ':then') == 0
  if known.suspect or known.conversation or not known.is_unfollowed then
    settle()
  end
  write_last_step(task.step, known)
  known.ran = known.ran + tonumber(ran)
  local facts = {'running_ms', text(known.ran), 'finished_fence', lease, 'partial', partial,
    'result', task.result}
  if known.failed then
    redis.call('HDEL', RECORD, 'failure')
  end
  count_run('completed', '', known.agent)
  return {'finished', end_task('completed', task.data, facts, known)}
end

local tasks, answers, beside, followers = {}, {}, {}, {}
local place = 6
while place <= #ARGV do
  local about, behind = ARGV[place], place + 3
  place = behind + tonumber(string.match(about, '%d+$'))
  tasks[#tasks + 1] = {about = about, result = ARGV[behind - 2], data = ARGV[behind - 1],
    step = from_place(ARGV, behind, place - 1)}
  local record = RECORDS .. string.match(about, '^%S+')
  beside[#beside + 1], beside[#beside + 2] = record .. ':journal', record .. ':budget'
  followers[#tasks] = record .. ':then'
end
are_bare = redis.call('EXISTS', unpack(beside)) == 0
has_followers = redis.call('EXISTS', unpack(followers)) > 0
for i, task in ipairs(tasks) do
  if not gathered then
    gather()
  end
  answers[i] = answer_of(finish, task)
end
settle()
return answers
