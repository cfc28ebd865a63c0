-- Tells how a gate stands; changes nothing but what has run out.
--
-- KEYS  1 gate
-- ARGV  1 part (ms)
-- Returns {in flight, waiting, requests, tokens, closed for (ms), reason or ''}.

at_gate(KEYS[1])
redis.call('ZREMRANGEBYSCORE', PERMITS, '-inf', AT)
repeat
  local gone = forget_unseen()
until gone < UNSEEN_AT_ONCE
local requests, tokens = count_window(tonumber(ARGV[1]))
local reason, ms = closed(
  number('cool_ms'), number('failures'), number('probe_ms'))
return {redis.call('ZCARD', PERMITS), redis.call('HLEN', PLACES), requests, tokens,
  ms or 0, reason or ''}
