-- The end of what gathering.lua begins; comes after messages.lua. It changes nothing by
-- itself.

local function write_successes(health, by)
  redis.pcall('HINCRBY', health, 'successes', by)
  redis.pcall('HSET', health, 'last_success_ms', AT)
end

-- Counts how a run ended for its agent's health.
local function count_run(status, code, agent)
  local health = HEALTH .. agent
  if status == 'completed' and gathered then
    gathered.successes[health] = (gathered.successes[health] or 0) + 1
  elseif status == 'completed' then
    write_successes(health, 1)
  elseif status ~= 'cancelled' then
    redis.pcall('HINCRBY', health, 'failures', 1)
    redis.pcall('HSET', health, 'last_failure_ms', AT, 'last_failure_code', code)
  end
end

-- Writes what was gathered. What follows is written where it is known.
local function settle()
  local all = gathered
  gathered = nil
  if not all then
    return
  end
  local problem = nil
  local function write(command, key, list)
    local answer = redis.pcall(command, key, unpack(list))
    problem = problem or type(answer) == 'table' and answer.err
  end
  for key, members in pairs(all.left) do
    write('ZREM', key, members)
  end
  for key, places in pairs(all.entered) do
    write('ZADD', key, places)
  end
  for field, by in pairs(all.unfinished) do
    write_unfinished(field, by)
  end
  for field, by in pairs(all.counts) do
    count(field, by)
  end
  for health, by in pairs(all.successes) do
    write_successes(health, by)
  end
  for queue, newest in pairs(all.taken) do
    note_taken(queue, newest)
  end
  assert(not problem, problem)
end

-- Does for one of many tasks what may end in an error, which is then its own answer: what
-- was gathered for the others is written all the same.
local function answer_of(serve, task)
  local is_served, answer = pcall(serve, task)
  if is_served then
    return answer
  end
  return {err = type(answer) == 'table' and answer.err or tostring(answer)}
end
