-- What was decided on awaited calls; comes after ending.lua and shares its KEYS and ARGV.
-- It changes nothing by itself.

-- Keeps decisions, each {key, decision (JSON), event (JSON)}, on awaited calls of a
-- waiting task; after the last one waiting -> pending. Returns doorbells.
local function decide(decided)
  if #decided == 0 then
    return {}
  end
  local left = get_number('awaited') - #decided
  if left == 0 then
    move('pending')
    leave_lines(get('queue'), get('suspect'))
  end
  redis.call('HSET', RECORD, 'awaited', text(left), 'resumes', '1')
  for _, each in ipairs(decided) do
    redis.call('HDEL', RECORD, 'await:' .. each.key, 'lapse:' .. each.key)
    redis.call('HSET', JOURNAL, each.key, '! ' .. AT .. ' ' .. each.decision)
    redis.call('HSET', RECORD, 'decided', each.key .. ' ' .. redis.sha1hex(each.decision))
    append_event('tool_call.resolved', each.event)
  end
  return left == 0 and make_due(0) or {}
end

-- Returns a refusal of each awaited call whose time for a decision is over, and when
-- that of the next one is, or nil.
local function lapsed_calls(note)
  local lapsed, first = {}, nil
  local fields = redis.call('HGETALL', RECORD)
  for i = 1, #fields, 2 do
    local key, at = string.match(fields[i], '^lapse:(.*)$'), tonumber(fields[i + 1])
    if key and at > NOW then
      first = math.min(first or at, at)
    elseif key then
      local id = string.gsub(key, '^tool:', '')
      table.insert(lapsed, {
        key = key,
        decision = cjson.encode({key = key, action = 'refuse', note = note}),
        event = cjson.encode({call_id = id, action = 'refuse', note = note}),
      })
    end
  end
  return lapsed, first
end
