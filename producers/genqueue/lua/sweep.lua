-- Look at every flight whose moment has come, publish again what its queue must have lost, and make room when memory is
-- short.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 limit of flights looked at per list, of jobs taken off and of answers
--       let go of, 3 slack in ms before a message counts as lost (of an empty queue at first EMPTY_MS, if that is less), 4 and 5 lease in ms granted once after an outage to
--       high and to the others, 6 least time between two sweeps in ms, 7 percent of the memory from which on it is
--       short (100: never), then queue, highest stamp popped from it, empty (0, 1)...
-- Returns {{flight, queue, stamp, why}...}: what must be published, and why: lost (its worker was), due (it has
--       waited), unheard (its message was lost); or, with queue and stamp '', dead (it ended as a dead letter).

-- Nobody swept for longer than this: the server or the fleet was away, and holders renew before they are judged.
local OUTAGE_MS = 3000
local SWEPT_TTL_MS = 3600000
-- What is in no queue was popped, and is claimed in milliseconds, or died with its worker. A message too many costs one
-- refusal; so that a slow fleet is not asked again and again, the next one waits for the whole slack.
local EMPTY_MS = 750

local now = now_from(ARGV[1])
local limit, slack_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
local min_interval_ms, high_water = tonumber(ARGV[6]), tonumber(ARGV[7])
local grace_ms = {high = tonumber(ARGV[4]), normal = tonumber(ARGV[5]), low = tonumber(ARGV[5])}
-- Jobs that this sweep may still take off.
local departures = limit
local found = {}

local function publish(flight, why)
  publish_again(flight, now)
  found[#found + 1] = {flight.id, flight.queue, tostring(flight.stamp), why}
end

-- Returns when the last outage was over, as long as anybody has grace from it. A partition swept for the first time had
-- none.
local function outage_end(last)
  if last == 0 or now - last <= OUTAGE_MS then return tonumber(redis.call('GET', slot .. 'grace') or -math.huge) end
  redis.call('SET', slot .. 'grace', now, 'PX', math.max(1, grace_ms.high, grace_ms.low))
  return now
end

-- A lease that ran out: forgiven once in a grace (until it is renewed), else the worker counts as lost.
local function judge(flight, outage)
  local grace = outage + grace_ms[flight.lane]
  if now < grace and flight.forgiven ~= flight.lease then
    save(flight, 'lease', grace, 'forgiven', grace)
    return look_at(flight, math.min(grace, first_deadline(flight)), now)
  end
  call_off(flight)
  save(flight, 'losses', flight.losses + 1)
  if flight.alone == 1 then save(flight, 'lone_losses', flight.lone_losses + 1) end
  note(flight, 'lost', {}, now)
  if flight.lone_losses >= flight.max_losses then
    local message = flight.losses .. ' workers were lost while they ran this, ' .. flight.lone_losses .. ' of them alone'
    finish(flight, 'failed', {'code', 'worker_lost', 'retryable', '1', 'message', message}, now)
  elseif not break_off(flight, 'worker lost', now) then
    end_attempt(flight, 'lost')
    return publish(flight, 'lost')
  end
  found[#found + 1] = {flight.id, '', '', 'dead'}
end

-- Take off the members whose deadline has passed; of a flight with many as many as leaves room for others. Returns
-- whether that ended the flight.
local function expire_members(flight)
  local ended, most = false, math.ceil(departures / 2)
  for _, job in ipairs(redis.call('ZRANGEBYSCORE', members_key(flight.id), '-inf', now, 'LIMIT', 0, most)) do
    ended = depart(flight, job, 'expired', now)
    departures = departures - 1
  end
  return ended
end

local function look(flight, outage)
  if expire_members(flight) then return end
  if flight.state == 'running' and flight.lease <= now then return judge(flight, outage) end
  if flight.state == 'waiting' and flight['until'] <= now then return publish(flight, 'due') end
  local due = {running = flight.lease, waiting = flight['until']}
  look_at(flight, math.min(due[flight.state] or math.huge, first_deadline(flight)), now)
end

local function find_lost(queue, edge, more_ms)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', sent_key(queue), '-inf', edge, 'LIMIT', 0, limit)) do
    local flight = load(id)
    if flight and flight.queue == queue then
      publish(flight, 'unheard')
      redis.call('ZINCRBY', sent_key(flight.queue), more_ms, id)
    else
      redis.call('ZREM', sent_key(queue), id)
    end
  end
end

local last = tonumber(redis.call('GET', slot .. 'swept') or 0)
if now >= last and now - last < min_interval_ms then return {} end
local outage = outage_end(last)
redis.call('SET', slot .. 'swept', now, 'PX', SWEPT_TTL_MS)

for _, id in ipairs(redis.call('ZRANGEBYSCORE', ledger_key, '-inf', now, 'LIMIT', 0, limit)) do
  local flight = load(id)
  if flight and not TERMINAL[flight.state] then
    look(flight, outage)
  else
    redis.call('ZREM', ledger_key, id)
  end
end
for index = 8, #ARGV, 3 do
  if ARGV[index + 2] == '1' then
    local short_ms = math.min(slack_ms, EMPTY_MS)
    find_lost(ARGV[index], now - short_ms, slack_ms - short_ms)
  else -- what stands behind the highest stamp popped is backlog; before it, lost
    find_lost(ARGV[index], math.min(tonumber(ARGV[index + 1]), now) - slack_ms, 0)
  end
end
forget_answers(pressure(high_water, true) > 0 and '+inf' or now, limit)
return found
