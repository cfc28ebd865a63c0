-- How a task begins: its record, its first events and those that it waits for; comes after
-- dispatch.lua, whose KEYS and ARGV it shares. What is `asked` reads create.lua. It changes
-- nothing by itself.

-- Registers the task with those of `ids` that have not ended, or whose message is part of
-- a run that has not; returns with how many. One of its id that was deleted may still be
-- registered there.
local function hold_until_ended(ids)
  local held, holding = 0, {}
  for _, id in ipairs(ids) do
    local status = redis.call('HGET', RECORDS .. id, 'status')
    local run = not status and redis.call('GET', RECORDS .. id .. ':joined')
    if run then
      id, status = run, redis.call('HGET', RECORDS .. run, 'status')
    end
    if status and next(TRANSITIONS[status]) and not holding[id] then
      redis.call('SADD', RECORDS .. id .. ':then', TASK_ID)
      held, holding[id] = held + 1, true
    end
  end
  return held
end

local function keep_fact(facts, name, value)
  if value then
    local last = #facts
    facts[last + 1], facts[last + 2] = name, value
  end
end

local function keep_turn(facts, asked, talk)
  keep_fact(facts, 'conversation', asked.conversation)
  keep_fact(facts, 'asked', asked.asked)
  keep_fact(facts, 'limits', asked.limits)
  conversation_keep(talk)
end

-- What few tasks have, as names and values; `rung` is when one was rung for.
local function rare_facts(asked, rung, held, expires, deadline, talk)
  local facts = {}
  if rung then keep_fact(facts, 'rung_ms', rung) end
  if held > 0 then
    keep_fact(facts, 'held', text(held))
    keep_fact(facts, 'pending_reason', 'waits for the end of other tasks')
  end
  if not asked.more then return facts end
  keep_fact(facts, 'webhook', asked.webhook)
  keep_fact(facts, 'traceparent', asked.traceparent)
  keep_fact(facts, 'expires_at_ms', expires and text(expires))
  keep_fact(facts, 'deadline_at_ms', deadline and text(deadline))
  keep_fact(facts, 'idempotency', asked.idempotency)
  keep_fact(facts, 'idempotency_ms', asked.idempotency_ms)
  keep_fact(facts, 'cache_key', asked.cache)
  if talk then keep_turn(facts, asked, talk) end
  return facts
end

local function write_record(asked, ordinal, due, now, rare)
  local of = asked.kind
  redis.call('HSET', RECORD, 'schema', SCHEMA, 'spec', asked.spec, 'agent', of.agent,
    'queue', of.queue, 'priority', of.priority, 'status', 'pending', 'attempt', '0',
    'events', '2', 'ordinal', ordinal, 'created_ms', now, 'due_ms', due,
    'rings', rare[1] == 'rung_ms' and '1' or '0', 'time_limit_ms', of.time_limit,
    unpack(rare))
end

local function write_first_events(asked, now)
  local of, trace = asked.kind, '}'
  if asked.traceparent then
    trace = ',"traceparent":"' .. asked.traceparent .. '"}'
  end
  redis.call('XADD', LOG, '0-1', 'type', 'task.created', 'attempt', '0', 'at_ms', now,
    'data', of.created .. trace)
  redis.call('XADD', LOG, '0-2', 'type', 'task.queued', 'attempt', '0', 'at_ms', now,
    'data', of.queued)
end
