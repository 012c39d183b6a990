-- Accept a job: find its answer, join the flight of the same question, or start a flight. A replay changes nothing.
-- Carries no allow-oom: new work is what is refused when memory is short.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 job, 3 flight to start, 4 fingerprint ('' shares nothing), 5 lane,
--       6 deadline in ms, 7 tenant, 8 leave mark, 9 cache (use, refresh, off), 10 request,
--       11 max_tries, 12 max_losses, 13 stream_ttl_ms, 14 keep_ms, 15 cache_ttl_ms, 16 dead_ttl_ms (0: keep_ms),
--       17 store (request: a failed flight keeps its request; none), 18 on_done ('': nobody is told of the end),
--       19 key of the idempotency entry ('' without), 20 traceparent ('' without),
--       21 on_interrupt (restart, continue, fail), 22 job that this one repeats ('' without),
--       23 percent of the memory from which on it is short (100: never)
-- Returns {status, flight, queue, stamp}; queue and stamp are '' when there is nothing to publish. Status:
--       new, joined, cached (answered at once), dup (this job is known), late (the deadline has passed), full (memory
--       is too short for a new flight of this lane; nothing was written, and stamp is the percent used).

local RANK = {high = 1, normal = 2, low = 3}
-- Memory pressure from which on a lane gets no new flights; the high one gets them as long as the server takes any.
local FULL = {low = 2, normal = 3}
-- Fields of a completed event that belong to the run that was paid for, not to an answer given again.
local OF_THE_PAID_RUN = {source = true, timings = true, cost = true}

local now = now_from(ARGV[1])
local job, fingerprint, lane, cache = ARGV[2], ARGV[4], ARGV[5], ARGV[9]
local deadline, keep_ms, dead_ttl_ms = tonumber(ARGV[6]), tonumber(ARGV[14]), tonumber(ARGV[16])
local store, on_done, on_interrupt, high_water = ARGV[17], ARGV[18], ARGV[21], tonumber(ARGV[23])

local function answer_again(id)
  local flight = load(id)
  if flight and flight.state == 'queued' then return {'dup', id, flight.queue, tostring(flight.stamp)} end
  return {'dup', id, '', ''}
end

-- How long after its deadline a job is known: as long as anything is found by it.
local function known_ms()
  return math.max(keep_ms, tonumber(ARGV[13]), tonumber(ARGV[15]), on_done ~= '' and OUTBOX_TTL_MS or 0)
end

local function enter_job(id)
  local key = job_key(job)
  redis.call('HSET', key, 'flight', id, 'lane', lane, 'tenant', ARGV[7], 'deadline', ARGV[6],
    'mark', ARGV[8], 'created', now, 'fingerprint', fingerprint)
  for name, value in pairs({on_done = on_done, idem = ARGV[19], traceparent = ARGV[20], replayed_from = ARGV[22]}) do
    if value ~= '' then redis.call('HSET', key, name, value) end
  end
  redis.call('PEXPIRE', key, deadline - now + known_ms())
end

-- Write the flight with these fields too, all at once, and the first event of its stream; nobody can be listening for
-- that one yet.
local function create(...)
  local id, lifetime_ms = ARGV[3], math.max(deadline - now, 0) + keep_ms
  enter_job(id)
  local first = redis.call('XADD', events_key(id), '*', 'type', 'queued', 'deadline', ARGV[6],
    'v', '1', 'attempt', '0', 'n', '0')
  redis.call('HSET', flight_key(id), 'state', 'queued', 'lane', lane, 'tenant', ARGV[7], 'deadline', ARGV[6],
    'fingerprint', fingerprint, 'cache', cache, 'last', first, 'created', now, 'written', 0, 'attempt', 0,
    'max_tries', ARGV[11], 'max_losses', ARGV[12], 'stream_ttl_ms', ARGV[13], 'keep_ms', keep_ms,
    'cache_ttl_ms', ARGV[15], 'dead_ttl_ms', dead_ttl_ms, 'store', store, 'traceparent', ARGV[20], ...)
  redis.call('PEXPIRE', flight_key(id), lifetime_ms)
  redis.call('PEXPIRE', events_key(id), lifetime_ms)
  return id
end

-- Returns the percent of the memory used when that is too much for a new flight of this lane.
local function percent_full()
  if not FULL[lane] then return nil end
  local level, used = pressure(high_water)
  return level >= FULL[lane] and used
end

local function start()
  local used = percent_full()
  if used then return {'full', '', '', string.format('%d', used)} end
  local queue = 'generate.' .. lane
  local id = create('queue', queue, 'request', ARGV[10], 'stamp', now)
  -- not read again: it takes longer than all that is left to do
  local flight = {id = id, queue = queue, stamp = now, deadline = deadline, keep_ms = keep_ms}
  if on_interrupt ~= 'restart' then save(flight, 'on_interrupt', on_interrupt) end
  redis.call('ZADD', members_key(flight.id), deadline, job)
  redis.call('PEXPIRE', members_key(flight.id), lifetime(flight, now))
  if fingerprint ~= '' then redis.call('SET', flying_key(fingerprint), flight.id, 'PX', lifetime(flight, now)) end
  expect_claim(flight, now)
  look_at(flight, deadline, now)
  return {'new', flight.id, flight.queue, tostring(flight.stamp)}
end

-- A finished flight of the job's own, its stream written out of the cache.
local function answer(cached)
  local flight = load(create('queue', ''))
  for number, fields in ipairs(cjson.decode(cached[1])) do
    for _, text in ipairs({'v', '1', 'attempt', '0', 'n', tostring(number)}) do fields[#fields + 1] = text end
    add_entry(flight, fields)
  end
  local completed, detail = cjson.decode(cached[2]), {'source', 'cache'}
  for index = 1, #completed, 2 do
    if not OF_THE_PAID_RUN[completed[index]] then
      detail[#detail + 1], detail[#detail + 2] = completed[index], completed[index + 1]
    end
  end
  redis.call('ZADD', members_key(flight.id), deadline, job)
  finish(flight, 'succeeded', detail, now)
  save(flight, 'result', cached[3])
  return {'cached', flight.id, '', ''}
end

-- Bring a joined flight to a more urgent lane. What runs there already stays with its holder, unless it came from
-- the cheap lane and has shown nothing.
local function lift(flight)
  local running = flight.state == 'running'
  local stays = running and not (flight.lane == 'low' and flight.delta == 0)
  save(flight, 'lane', lane)
  if stays then return {'joined', flight.id, '', ''} end
  if running then
    call_off(flight)
    end_attempt(flight, 'lifted')
  end
  publish_again(flight, now)
  return {'joined', flight.id, flight.queue, tostring(flight.stamp)}
end

local function join(flight)
  enter_job(flight.id)
  redis.call('ZADD', members_key(flight.id), deadline, job)
  save(flight, 'deadline', math.max(flight.deadline, deadline), 'keep_ms', math.max(flight.keep_ms, keep_ms),
    'dead_ttl_ms', math.max(flight.dead_ttl_ms, dead_ttl_ms))
  if store == 'none' then save(flight, 'store', store) end
  -- members that want different things get what is right for all
  if flight.on_interrupt and flight.on_interrupt ~= on_interrupt then
    redis.call('HDEL', flight_key(flight.id), 'on_interrupt')
    flight.on_interrupt = false
  end
  for _, key in ipairs({flight_key(flight.id), flight.events, members_key(flight.id), flying_key(fingerprint)}) do
    keep_at_least(key, lifetime(flight, now))
  end
  local look = tonumber(redis.call('ZSCORE', ledger_key, flight.id) or deadline)
  look_at(flight, math.min(look, deadline), now)
  if RANK[lane] < RANK[flight.lane] then return lift(flight) end
  return {'joined', flight.id, '', ''}
end

local known = redis.call('HGET', job_key(job), 'flight')
if known then return answer_again(known) end
if deadline <= now then return {'late', '', '', ''} end
if fingerprint == '' then return start() end

local cached = cache == 'use' and redis.call('HMGET', cache_key(fingerprint), 'events', 'completed', 'result')
if cached and cached[1] then return answer(cached) end

local flying = redis.call('GET', flying_key(fingerprint))
local flight = flying and load(flying)
if flight and not TERMINAL[flight.state] then return join(flight) end
return start()
