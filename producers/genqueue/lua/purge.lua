-- Erase a job. A flight that others share goes on without it; any other is ended, called off and erased with it. The
-- job's key stays, so that what else belongs to it can still be found; whoever erased that deletes the key.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 job
-- Returns 'erased', 'shared' (the flight stays) or 'gone' (nobody knows the job).

local now = now_from(ARGV[1])
local job = ARGV[2]
local key = job_key(job)
local found = redis.call('HMGET', key, 'flight', 'traceparent', 'fingerprint', 'finished', 'left', 'mark')
local traceparent, fingerprint, finished, left, mark = found[2], found[3], found[4], found[5], found[6]
local id = found[1]
if not id then return 'gone' end

local function forget_job()
  redis.call('ZREM', outbox_key, job)
  if finished then redis.call('XDEL', finished_key, finished) end
  redis.call('HDEL', key, 'on_done', 'done_token', 'done_ending', 'finished')
end

-- What of this job is written in a flight that others go on with.
local function step_out(flight)
  redis.call('ZREM', members_key(id), job)
  if not flight then return end
  local live = not TERMINAL[flight.state]
  if live and not left then announce(flight, 'type', 'left', 'mark', mark, 'reason', 'cancelled') end
  if live then redis.call('HSET', key, 'left', 'cancelled') end
  if traceparent and flight.traceparent == traceparent then redis.call('HDEL', flight_key(id), 'traceparent') end
end

local function erase(flight)
  redis.call('DEL', members_key(id))
  if flight and not TERMINAL[flight.state] then
    call_off(flight)
    finish(flight, 'cancelled', {}, now)
  end
  -- under whose name its blobs are
  if flight then redis.call('HSET', key, 'flight_tenant', flight.tenant) end
  redis.call('DEL', flight_key(id), events_key(id))
  local cached = cache_key(fingerprint or '')
  if redis.call('HGET', cached, 'flight') == id then
    redis.call('DEL', cached)
    redis.call('ZREM', cached_key, fingerprint)
  end
  redis.call('ZREM', dead_key, id)
end

local flight, heir = load(id), nil
for _, member in ipairs(redis.call('ZRANGE', members_key(id), 0, 1)) do
  if member ~= job then heir = member end
end
if heir then step_out(flight) else erase(flight) end
forget_job()
return heir and 'shared' or 'erased'
