-- How a finished step is written; comes after task.lua, whose KEYS and ARGV it shares. It
-- changes nothing by itself.

-- Writes a step over its start mark, if it has one; the first writer of its key wins.
-- list: key, step (JSON), its part of the answer (of a summary: its message as JSON) or
-- '', how many counts, the field and amount of each, then type and data of events.
-- Returns its entry, '<place> <ms> <step JSON>', without the step where it was not there, and
-- the number of its last event, if it told any.
local function write_step(list, attempt)
  local key, said = list[1], list[3]
  local stored = redis.call('HGET', JOURNAL, key)
  if is_finished(stored) then
    return stored
  end
  local place = redis.call('HINCRBY', RECORD, 'steps', 1)
  local entry = text(place) .. ' ' .. text(NOW)
  redis.call('HSET', JOURNAL, key, entry .. ' ' .. list[2])
  if redis.call('HGET', RECORD .. ':saying', 'key') == key then
    redis.call('DEL', RECORD .. ':saying')
  end
  if said ~= '' and get('conversation') then
    if key == 'summary' then
      redis.call('HSET', RECORD, 'summary', said)
    else
      redis.call('RPUSH', RECORD .. ':said', said)
    end
  end
  local events = 5 + 2 * tonumber(list[4])
  for i = 5, events - 1, 2 do
    count(list[i], tonumber(list[i + 1]))
  end
  return entry, append_listed(list, events, attempt)
end

-- Writes the step that a run ends with, if any; `known` is what known_at_end (ending.lua) has
-- read.
local function write_last_step(list, known)
  if #list > 0 then
    local _, number = write_step(list, known.attempt)
    known.events, known.streamed, known.is_bare = number or known.events, true, false
  end
end
