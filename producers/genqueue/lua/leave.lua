-- Take a job off its flight. The last one to leave ends the flight and calls its holder off.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 job, 3 reason (cancelled, expired)
-- Returns {'ended', inbox, token} or {'left', inbox, token}, of the holder if there is one, {'already', reason},
--       {'done', state} of a flight that has ended, {'early', ms left} when the deadline has not passed, or {'gone'}.

local now = now_from(ARGV[1])
local job, reason = ARGV[2], ARGV[3]
local found = redis.call('HMGET', job_key(job), 'flight', 'left', 'deadline')
if not found[1] then return {'gone'} end
if found[2] then return {'already', found[2]} end
local flight = load(found[1])
if not flight then return {'gone'} end
if TERMINAL[flight.state] then return {'done', flight.state} end

local left_ms = reason == 'expired' and tonumber(found[3]) - now or 0
if left_ms > 0 then return {'early', left_ms} end

local inbox, token = flight.token and flight.inbox or '', flight.token or ''
return {depart(flight, job, reason, now) and 'ended' or 'left', inbox, token}
