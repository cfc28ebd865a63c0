-- Ends a task: last step, status, result, conversation turn, end event and health,
-- together.
--
-- KEYS  task.lua's, then those of the conversation append when there is a turn
-- ARGV  task.lua's, then 6 lease, 7 status, 8 running time (ms), 9 result (JSON) or '',
--       10 failure (JSON) or '', 11 failure code, 12 '1' when partial, 13 event data,
--       14 event data when the turn was dropped, 15 how many arguments the last step has
--       that is not recorded yet, or 0, then these (steps.lua), then the append's own
-- A turn is dropped where its conversation is gone, or something else stands in its place: a
-- task must be able to end.
-- Without a turn of its own a task that has no answer leaves what end_task keeps.
-- Returns {'finished', doorbells} or {'lost'}.

local known = known_at_end()
if known.status ~= 'running' or not is_lease(ARGV[6], known.attempt, known.claim_token) then
  if known.status == ARGV[7] and get('finished_fence') == ARGV[6] then
    return {'finished', wake_next_turn()}
  end
  return {'lost'}
end

check_listed(known.ordinal, known.agent) -- before what comes before the move
local data, of_step = ARGV[13], tonumber(ARGV[15])
local keys, argv, plan = from_place(KEYS, 2), nil, nil
if #keys > 0 then
  argv = from_place(ARGV, 16 + of_step)
  if get('limits') then
    argv[3], argv[4], argv[5] = string.match(get('limits'), '^(.-)\n(.-)\n(.*)$')
  end
  local is_read, found = pcall(conversation_append_plan, keys, argv)
  plan = is_read and found or {refused = {'damaged'}}
end
write_last_step(from_place(ARGV, 16, 15 + of_step), known)
if plan and (plan.refused or get('rolled_back')) then
  data = ARGV[14]
elseif plan then
  if of_step == 0 then -- the first write is one that a full Redis refuses, and not in a pcall
    redis.call('HSET', RECORD, 'finished_fence', ARGV[6])
  end
  if not pcall(conversation_append_write, keys, argv, plan, AT) then
    data = ARGV[14]
  end
end
known.ran = known.ran + tonumber(ARGV[8])
local facts = {'running_ms', text(known.ran), 'finished_fence', ARGV[6], 'partial', ARGV[12]}
if ARGV[9] ~= '' then
  facts[#facts + 1], facts[#facts + 2] = 'result', ARGV[9]
end
if ARGV[10] ~= '' then
  facts[#facts + 1], facts[#facts + 2] = 'failure', ARGV[10]
elseif known.failed then
  redis.call('HDEL', RECORD, 'failure')
end
count_run(ARGV[7], ARGV[11], known.agent)
return {'finished', end_task(ARGV[7], data, facts, known)}
