-- Look at every flight whose moment has come, and publish again what its queue must have lost.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 limit of flights looked at per list, 3 slack in ms before a message
--       counts as lost, 4 lease granted once after an outage in ms, 5 least time between two sweeps in ms,
--       then queue, highest stamp popped from it, empty (0, 1)...
-- Returns {{flight, queue, stamp}...}: what must be published.

-- Nobody swept for longer than this: the server or the fleet was away, and holders renew before they are judged.
local OUTAGE_MS = 3000
local SWEPT_TTL_MS = 3600000

local now = now_from(ARGV[1])
local limit, slack_ms, lease_grace_ms, min_interval_ms = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local publications = {}

local function publish(flight)
  publish_again(flight, now)
  publications[#publications + 1] = {flight.id, flight.queue, tostring(flight.stamp)}
end

-- Returns the end of the grace after an outage, 0 without one. A partition swept for the first time had none.
local function grace_end(last)
  if last == 0 or now - last <= OUTAGE_MS then return tonumber(redis.call('GET', slot .. 'grace') or 0) end
  local moment = now + lease_grace_ms
  redis.call('SET', slot .. 'grace', moment, 'PX', lease_grace_ms)
  return moment
end

-- A lease that ran out: forgiven once in a grace (until it is renewed), else the worker counts as lost.
local function judge(flight, grace)
  if now < grace and flight.forgiven ~= flight.lease then
    save(flight, 'lease', grace, 'forgiven', grace)
    return look_at(flight, math.min(grace, first_deadline(flight)), now)
  end
  call_off(flight)
  save(flight, 'losses', flight.losses + 1)
  if flight.losses >= flight.max_losses then
    return finish(flight, 'failed', {'code', 'worker_lost', 'retryable', '1',
      'message', flight.losses .. ' workers were lost while they ran this'}, now)
  end
  end_attempt(flight, 'lost')
  publish(flight)
end

-- Take off the members whose deadline has passed. Returns whether that ended the flight.
local function expire_members(flight)
  local ended = false
  for _, job in ipairs(redis.call('ZRANGEBYSCORE', members_key(flight.id), '-inf', now, 'LIMIT', 0, limit)) do
    ended = depart(flight, job, 'expired', now)
  end
  return ended
end

local function look(flight, grace)
  if expire_members(flight) then return end
  if flight.state == 'running' and flight.lease <= now then return judge(flight, grace) end
  if flight.state == 'waiting' and flight['until'] <= now then return publish(flight) end
  local due = {running = flight.lease, waiting = flight['until']}
  look_at(flight, math.min(due[flight.state] or math.huge, first_deadline(flight)), now)
end

local function find_lost(queue, edge)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', sent_key(queue), '-inf', edge, 'LIMIT', 0, limit)) do
    local flight = load(id)
    if flight and flight.queue == queue then
      publish(flight)
    else
      redis.call('ZREM', sent_key(queue), id)
    end
  end
end

local last = tonumber(redis.call('GET', slot .. 'swept') or 0)
if now >= last and now - last < min_interval_ms then return {} end
local grace = grace_end(last)
redis.call('SET', slot .. 'swept', now, 'PX', SWEPT_TTL_MS)

for _, id in ipairs(redis.call('ZRANGEBYSCORE', ledger_key, '-inf', now, 'LIMIT', 0, limit)) do
  local flight = load(id)
  if flight and not TERMINAL[flight.state] then
    look(flight, grace)
  else
    redis.call('ZREM', ledger_key, id)
  end
end
for index = 6, #ARGV, 3 do
  local popped, empty = tonumber(ARGV[index + 1]), ARGV[index + 2] == '1'
  -- what stands behind the highest stamp popped is backlog; before it, lost
  find_lost(ARGV[index], (empty and now or math.min(popped, now)) - slack_ms)
end
return publications
