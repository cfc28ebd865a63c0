-- Tells how a gate stands; changes nothing but what has run out.
--
-- KEYS  gate.lua's
-- ARGV  1 part (ms)   2 parts in a window   3 failures to open
-- Returns {in flight, waiting, requests, tokens, closed for (ms), reason or ''}.

redis.call('ZREMRANGEBYSCORE', PERMITS, '-inf', text(NOW))
local requests, tokens = count_window(tonumber(ARGV[1]), tonumber(ARGV[2]))
local reason, ms = closed(
  tonumber(ARGV[3]), number('cool_ms'), number('failures'), number('probe_ms'))
return {redis.call('ZCARD', PERMITS), redis.call('HLEN', PLACES), requests, tokens,
  ms or 0, reason or ''}
