-- Between lib.lua and the scripts that move a flight from state to state.
-- States: queued, running, waiting, in any order, until one of TERMINAL. `token` exists exactly while running.

-- Terminal states, and the type of the event that says so.
local TERMINAL = {succeeded = 'completed', failed = 'failed', cancelled = 'cancelled', expired = 'expired'}
local TEXTS = {
  'state', 'lane', 'tenant', 'fingerprint', 'cache', 'queue', 'token', 'inbox', 'settled_by', 'restart', 'last',
}
local NUMBERS = {
  'deadline', 'stamp', 'spent', 'lease', 'forgiven', 'until', 'attempt', 'written', 'delta', 'tries', 'losses',
  'created', 'max_tries', 'max_losses', 'stream_ttl_ms', 'keep_ms', 'cache_ttl_ms',
}

local function flight_key(id) return slot .. 'flight:' .. id end
local function members_key(id) return slot .. 'members:' .. id end
local function job_key(job) return slot .. 'job:' .. job end
local function sent_key(queue) return slot .. 'sent:' .. queue end
local function flying_key(fingerprint) return slot .. 'flying:' .. fingerprint end
local function cache_key(fingerprint) return slot .. 'cache:' .. fingerprint end
local ledger_key = slot .. 'ledger'

-- Returns a flight's fields by name, absent texts as false and absent numbers as 0, or nil without such a flight.
local function load(id)
  local texts = redis.call('HMGET', flight_key(id), unpack(TEXTS))
  if not texts[1] then return nil end
  local numbers = redis.call('HMGET', flight_key(id), unpack(NUMBERS))
  local flight = {id = id, events = events_key(id), bell = bell(id)}
  for index, name in ipairs(TEXTS) do flight[name] = texts[index] end
  for index, name in ipairs(NUMBERS) do flight[name] = tonumber(numbers[index] or 0) end
  return flight
end

local function save(flight, ...)
  local changes = {...}
  for index = 1, #changes, 2 do flight[changes[index]] = changes[index + 1] end
  redis.call('HSET', flight_key(flight.id), ...)
end

-- Give a key at least this long to live; never shortens.
local function keep_at_least(key, milliseconds)
  if redis.call('PTTL', key) < milliseconds then redis.call('PEXPIRE', key, milliseconds) end
end

-- How long what belongs to a flight must live, counted from now.
local function lifetime(flight, now)
  return math.max(flight.deadline - now, 0) + flight.keep_ms
end

-- The one moment at which somebody must look at this flight again.
local function look_at(flight, moment, now)
  redis.call('ZADD', ledger_key, moment, flight.id)
  keep_at_least(ledger_key, lifetime(flight, now))
end

local function first_deadline(flight)
  return tonumber(redis.call('ZRANGE', members_key(flight.id), 0, 0, 'WITHSCORES')[2] or 0)
end

-- Write an event that no attempt numbers.
local function announce(flight, ...)
  local fields = {...}
  for index = 1, #fields do fields[index] = tostring(fields[index]) end
  for _, text in ipairs({'v', '1', 'attempt', tostring(flight.attempt), 'n', '0'}) do fields[#fields + 1] = text end
  if add_entry(flight, fields) then save(flight, 'last', flight.last) end
end

-- Remember what was published, to see when its message is lost.
local function expect_claim(flight, now)
  redis.call('ZADD', sent_key(flight.queue), flight.stamp, flight.id)
  keep_at_least(sent_key(flight.queue), lifetime(flight, now))
end

-- Tell the holder of a running flight that it is his no more. Comes before the state changes.
local function call_off(flight)
  if flight.state == 'running' then redis.call('PUBLISH', flight.inbox, flight.id .. ' ' .. flight.token) end
end

-- Void the token; the next claim tells readers why the text begins anew.
local function end_attempt(flight, reason)
  redis.call('HDEL', flight_key(flight.id), 'token')
  flight.token = false
  save(flight, 'restart', reason)
end

-- Queue a flight that nobody runs once more, in front of its lane, with a stamp later than every one before.
local function publish_again(flight, now)
  local queue = 'generate.' .. flight.lane .. '.again'
  if flight.queue ~= '' and flight.queue ~= queue then redis.call('ZREM', sent_key(flight.queue), flight.id) end
  save(flight, 'state', 'queued', 'queue', queue, 'stamp', math.max(now, flight.stamp + 1))
  expect_claim(flight, now)
  look_at(flight, first_deadline(flight), now)
end

-- Write the terminal event and let go of everything but the answer. `ending` holds the event's fields as a JSON
-- object, for those who ask when the stream has expired.
local function finish(flight, state, detail)
  announce(flight, 'type', TERMINAL[state], unpack(detail))
  if flight.queue ~= '' then redis.call('ZREM', sent_key(flight.queue), flight.id) end
  local ending = {}
  for index = 1, #detail, 2 do ending[detail[index]] = detail[index + 1] end
  save(flight, 'state', state, 'queue', '', 'ending', cjson.encode(ending))
  redis.call('HDEL', flight_key(flight.id), 'token', 'request', 'until')
  redis.call('ZREM', ledger_key, flight.id)
  local flying = flying_key(flight.fingerprint)
  if flight.fingerprint ~= '' and redis.call('GET', flying) == flight.id then redis.call('DEL', flying) end
  redis.call('PEXPIRE', flight_key(flight.id), flight.keep_ms)
  redis.call('PEXPIRE', members_key(flight.id), flight.keep_ms)
  redis.call('PEXPIRE', flight.events, flight.stream_ttl_ms)
end

-- Take one job off a flight; the last one ends it. Returns whether it did.
local function depart(flight, job, reason)
  redis.call('ZREM', members_key(flight.id), job)
  local mark = redis.call('HGET', job_key(job), 'mark')
  -- a job whose key has expired must not come back without a TTL
  if mark then redis.call('HSET', job_key(job), 'left', reason) end
  if redis.call('ZCARD', members_key(flight.id)) == 0 then
    call_off(flight)
    finish(flight, reason, {})
    return true
  end
  if mark then announce(flight, 'type', 'left', 'mark', mark, 'reason', reason) end
  return false
end
