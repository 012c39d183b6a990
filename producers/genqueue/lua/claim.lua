-- Take a queued flight: whoever holds its token may write. The same token on its own running flight gets the same
-- answer.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 flight, 3 token, 4 stamp of the message, 5 inbox channel of the worker,
--       6 to 8 lease in ms for high, normal, low
-- Returns {'ok', attempt, written, lane, deadline, tenant, request, created, claimed, tries, traceparent}, moments in
--       ms, or {'gone'}, {'done'}, {'leased'} (another holds it), {'spent'} (a message of a publication claimed before),
--       {'notyet'} (it waits), {'late'} (the deadline has passed).

local now = now_from(ARGV[1])
local token, stamp = ARGV[3], tonumber(ARGV[4])
local lease_ms = {high = ARGV[6], normal = ARGV[7], low = ARGV[8]}
local flight = load(ARGV[2])

local function granted()
  local rest = redis.call('HMGET', flight_key(flight.id), 'request', 'claimed')
  return {'ok', flight.attempt, flight.written, flight.lane, flight.deadline, flight.tenant, rest[1], flight.created,
    tonumber(rest[2]), flight.tries, flight.traceparent or ''}
end

local function refusal()
  if not flight then return 'gone' end
  if TERMINAL[flight.state] then return 'done' end
  if flight.state == 'running' then return 'leased' end
  if stamp <= flight.spent then return 'spent' end
  if flight.state == 'waiting' then return 'notyet' end
  if flight.deadline <= now then return 'late' end
end

if flight and flight.token == token then return granted() end
local refused = refusal()
if refused then return {refused} end

flight.attempt = flight.attempt + 1
if flight.delta == 1 then announce(flight, 'type', 'restarted', 'reason', flight.restart) end
redis.call('ZREM', sent_key(flight.queue), flight.id)
save(flight, 'state', 'running', 'token', token, 'inbox', ARGV[5], 'attempt', flight.attempt, 'written', 0, 'delta', 0,
  'queue', '', 'spent', flight.stamp, 'claimed', now, 'lease', now + lease_ms[flight.lane])
look_at(flight, math.min(flight.lease, first_deadline(flight)), now)
return granted()
