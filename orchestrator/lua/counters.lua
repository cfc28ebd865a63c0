-- What is counted for the metrics; comes after gathering.lua and before task.lua. It changes
-- nothing by itself.
-- One hash per tenant, and the set of tenants that have one. A count moves in the script
-- that makes the transition, so a repeat or a lost answer counts nothing twice. KEYS and
-- ARGV are task.lua's.
--
-- Fields, read by orchestrator/metrics.py; <place> is a bucket of times or `sum` (ms):
--   tasks <status> <agent>           unfinished tasks, up and down
--   wait <place> <agent>             claims, by how long the task was due
--   ended <status> <place> <agent>   ended tasks, by their time from acceptance
--   running_ms <agent>               time in `running`, added when a task ends
--   released <cause> <agent>         attempts that ended though the task did not
--   dropped                          counts that found no room
--   others                           of steps, as the caller of record_step.lua names them

local METRICS = ROOT .. ARGV[1] .. ':metrics'
local TENANTS = ROOT .. '_fleet:tenants'
-- Clients may choose the names of models and tools: beyond MOST_FIELDS there is no room.
-- What cannot be counted (too large a number, something else in place of the hash) is
-- not: it must not cut a change of a task in two, nor take along what is counted with it.
local MOST_COUNTED = 2 ^ 53

local function count(field, by)
  if not (math.abs(by) <= MOST_COUNTED) then -- nor what is no number at all
    return
  elseif gathered then
    gathered.counts[field] = (gathered.counts[field] or 0) + by
    return
  end
  local value = redis.pcall('HINCRBY', METRICS, field, string.format('%.0f', by))
  if value == by and redis.call('HLEN', METRICS) > MOST_FIELDS then
    redis.call('HDEL', METRICS, field)
    redis.call('HINCRBY', METRICS, 'dropped', 1)
  end
end

-- None is no field: whoever may name agents freely could fill the hash.
local function write_unfinished(field, by)
  local value = redis.pcall('HINCRBY', METRICS, field, string.format('%d', by))
  if value == by and by > 0 then
    redis.pcall('SADD', TENANTS, ARGV[1])
  elseif value == 0 then
    redis.call('HDEL', METRICS, field)
  end
end

-- More or less unfinished tasks of an agent.
local function count_unfinished(status, agent, by)
  local field = 'tasks ' .. status .. ' ' .. agent
  if gathered then
    gathered.unfinished[field] = (gathered.unfinished[field] or 0) + by
  else
    write_unfinished(field, by)
  end
end

local function count_time(name, agent, ms)
  local place = #BUCKETS
  for i, bound in ipairs(BUCKETS) do
    if ms <= bound then
      place = i - 1
      break
    end
  end
  count(name .. ' ' .. place .. ' ' .. agent, 1)
  count(name .. ' sum ' .. agent, math.max(0, ms))
end
