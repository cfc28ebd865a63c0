-- Messages that are out and those that have come in; comes after dispatch.lua. It changes
-- nothing by itself.

-- Whether a message was taken that came after this one could have been.
local function overtaken(queue, score)
  local band = math.floor(score / BAND)
  local number = score - band * BAND
  for other = band, 9 do
    if flow(queue, other) - other * BAND > number then
      return true
    end
  end
  return false
end

-- Why the outstanding message of a task is to be repeated, or nil: it was overtaken, or it
-- is the last one of its band and nobody takes it, though slots are free or all is quiet.
local function message_doubt(score)
  local queue, band = get('queue'), math.floor(score / BAND)
  if overtaken(queue, score) then
    return 'overtaken'
  end
  local last = redis.call('ZREVRANGEBYSCORE', in_fleet('rung', queue),
    text((band + 1) * BAND - 1), text(band * BAND), 'LIMIT', 0, 1)[1]
  if last ~= MEMBER then
    return nil
  end
  local probes = flow(queue, 'probes')
  local idle = slots(queue) > redis.call('ZCARD', LEASES)
  local patience = idle and RESEND or math.min(RESEND * 2 ^ probes, MAX_RESEND)
  local since = idle and (get_number('rung_ms') or 0) or flow(queue, 'at')
  if NOW - math.max(since, flow(queue, 'probed')) < patience then
    return nil
  end
  set_flow(queue, 'probes', probes + 1)
  set_flow(queue, 'probed', NOW)
  return 'silence'
end

-- Notes the newest message of each band that was taken from a queue, by flow's field.
local function note_taken(queue, newest)
  local at, fields = queue .. ' at', {}
  for field in pairs(newest) do
    fields[#fields + 1] = field
  end
  local known = redis.call('HMGET', FLEET .. 'flow', at, unpack(fields))
  local facts = {at, AT}
  for i, field in ipairs(fields) do
    local score = math.max(newest[field], tonumber(known[i + 1] or nil) or 0)
    facts[#facts + 1], facts[#facts + 2] = field, text(score)
  end
  if NOW - (tonumber(known[1] or nil) or 0) < RESEND then
    facts[#facts + 1], facts[#facts + 2] = queue .. ' probes', '0'
  end
  redis.call('HSET', FLEET .. 'flow', unpack(facts))
end

-- A message for the task has come in; none is outstanding now. Tells whether one was. Where
-- it was overtaken and repeated it may be the first one, which a busy worker had kept: that
-- proves nothing of the messages before the repetition.
local function take_message(queue, was_overtaken)
  local rung = in_fleet('rung', queue)
  local score = tonumber(redis.call('ZSCORE', rung, MEMBER) or nil)
  if not score then
    return false
  end
  leave(rung, MEMBER)
  local newest = gathered and gathered.taken[queue] or {}
  if was_overtaken then
    redis.call('HDEL', RECORD, 'overtaken')
  else
    local field = queue .. ' ' .. math.floor(score / BAND)
    newest[field] = math.max(score, newest[field] or 0)
  end
  if gathered then
    gathered.taken[queue] = newest
  else
    note_taken(queue, newest)
  end
  return true
end
