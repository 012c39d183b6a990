-- Take a queued flight: whoever holds its token may write. The same token on its own running flight gets the same
-- answer.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 flight, 3 token, 4 stamp of the message, 5 inbox channel of the worker,
--       6 to 8 lease in ms for high, normal, low, 9 whether the attempt has its process to itself (0, 1)
-- Returns {'ok', attempt, written, lane, deadline, tenant, request, created, claimed, tries, traceparent, resumed,
--       on_interrupt}, moments in ms, resumed 1 when what was shown stays and this attempt goes on from it; or
--       {'gone'}, {'done'}, {'leased'} (another holds it), {'spent'} (a message of a publication claimed before),
--       {'notyet'} (it waits), {'late'} (the deadline has passed), {'suspect'} (so many workers were lost while they
--       ran it beside others that it must run alone).

-- With this many losses beside others a flight is a suspect.
local SHARED_LOSSES = 2
-- Whoever was told so finds it a process, and claims it, or asks again, before this is over: until then its message does
-- not count as lost.
local SUSPECT_MS = 2500

local now = now_from(ARGV[1])
local token, stamp = ARGV[3], tonumber(ARGV[4])
local lease_ms = {high = ARGV[6], normal = ARGV[7], low = ARGV[8]}
local alone = ARGV[9] == '1'
local flight = load(ARGV[2])

local function granted()
  local rest = redis.call('HMGET', flight_key(flight.id), 'request', 'claimed')
  return {'ok', flight.attempt, flight.written, flight.lane, flight.deadline, flight.tenant, rest[1], flight.created,
    tonumber(rest[2]), flight.tries, flight.traceparent or '', flight.resumed, flight.on_interrupt or 'restart'}
end

local function refusal()
  if not flight then return 'gone' end
  if TERMINAL[flight.state] then return 'done' end
  if flight.state == 'running' then return 'leased' end
  if stamp <= flight.spent then return 'spent' end
  if flight.state == 'waiting' then return 'notyet' end
  if flight.deadline <= now then return 'late' end
  if not alone and flight.losses - flight.lone_losses >= SHARED_LOSSES then return 'suspect' end
end

if flight and flight.token == token then return granted() end
local refused = refusal()
if refused == 'suspect' then redis.call('ZADD', sent_key(flight.queue), 'XX', now + SUSPECT_MS, flight.id) end
if refused then return {refused} end

flight.attempt = flight.attempt + 1
local resumed = flight.delta == 1 and flight.on_interrupt == 'continue'
if resumed then
  -- `kept` tells readers of a server that lost its last entries that what they were shown is not what stays
  announce(flight, 'type', 'continued', 'reason', flight.restart, 'kept', flight.written)
elseif flight.delta == 1 then
  announce(flight, 'type', 'restarted', 'reason', flight.restart)
end
redis.call('ZREM', sent_key(flight.queue), flight.id)
save(flight, 'state', 'running', 'token', token, 'inbox', ARGV[5], 'attempt', flight.attempt, 'written', 0,
  'delta', resumed and 1 or 0,
  'queue', '', 'spent', flight.stamp, 'claimed', now, 'lease', now + lease_ms[flight.lane])
if alone then save(flight, 'alone', 1) end
if resumed then save(flight, 'resumed', 1) end
look_at(flight, math.min(flight.lease, first_deadline(flight)), now)
return granted()
