-- How a finished step is written; comes after task.lua, whose KEYS and ARGV it shares. It
-- changes nothing by itself.

-- What a step that this lease records hangs on; nothing where that is not the run's.
local function known_at_step(lease)
  local status, attempt, claim_token, steps, events, conversation, suspect = unpack(
    redis.call('HMGET', RECORD, 'status', 'attempt', 'claim_token', 'steps', 'events',
      'conversation', 'suspect'))
  if status == 'running' and is_lease(lease, attempt, claim_token) then
    return {attempt = attempt, steps = tonumber(steps or nil) or 0,
      events = tonumber(events or nil) or 0, conversation = conversation, suspect = suspect}
  end
end

-- Writes a step over its start mark, if it has one; the first writer of its key wins.
-- list: key, step (JSON), its part of the answer (of a summary: its message as JSON) or
-- '', how many counts, the field and amount of each, then type and data of events.
-- `known` is what known_at_step or known_at_end has read; how many steps and events there are
-- now is told there and for its reader to write.
-- Returns its entry, '<place> <ms> <step JSON>', without the step where it was not there.
local function write_step(list, known)
  local key, said = list[1], list[3]
  local stored = known.most_keys ~= NO_JOURNAL and redis.call('HGET', JOURNAL, key)
  if is_finished(stored) then
    return stored
  end
  known.steps = known.steps + 1
  local entry = text(known.steps) .. ' ' .. AT
  redis.call('HSET', JOURNAL, key, entry .. ' ' .. list[2])
  if known.conversation then
    if redis.call('HGET', RECORD .. ':saying', 'key') == key then
      redis.call('DEL', RECORD .. ':saying')
    end
    if said ~= '' and key == 'summary' then
      redis.call('HSET', RECORD, 'summary', said)
    elseif said ~= '' then
      redis.call('RPUSH', RECORD .. ':said', said)
    end
  end
  local events = 5 + 2 * tonumber(list[4])
  for i = 5, events - 1, 2 do
    count(list[i], tonumber(list[i + 1]))
  end
  for i = events, #list, 2 do
    known.events = known.events + 1
    append_numbered(text(known.events), list[i], known.attempt, list[i + 1])
  end
  return entry
end
