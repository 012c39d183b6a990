-- Take every job off a flight, which ends it and calls its holder off.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 flight
-- Returns {'ended', inbox, token}, of the holder if there was one, {'done', state} of a flight that has ended, or
--       {'gone'}.

local now = now_from(ARGV[1])
local flight = load(ARGV[2])
if not flight then return {'gone'} end
if TERMINAL[flight.state] then return {'done', flight.state} end

local inbox, token = flight.token and flight.inbox or '', flight.token or ''
for _, job in ipairs(redis.call('ZRANGE', members_key(flight.id), 0, -1)) do
  -- a job whose key has expired must not come back without a TTL
  if redis.call('EXISTS', job_key(job)) == 1 then redis.call('HSET', job_key(job), 'left', 'cancelled') end
end
call_off(flight)
finish(flight, 'cancelled', {}, now)
return {'ended', inbox, token}
