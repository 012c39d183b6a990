-- Between lib.lua and the scripts that move a flight from state to state.
-- States: queued, running, waiting, in any order, until one of TERMINAL. `token` exists exactly while running.

-- Terminal states, and the type of the event that says so.
local TERMINAL = {succeeded = 'completed', failed = 'failed', cancelled = 'cancelled', expired = 'expired'}
local TEXTS = {
  'state', 'lane', 'tenant', 'fingerprint', 'cache', 'queue', 'token', 'inbox', 'settled_by', 'restart', 'last',
  'store', 'traceparent', 'on_interrupt',
}
local NUMBERS = {
  'deadline', 'stamp', 'spent', 'lease', 'forgiven', 'until', 'attempt', 'written', 'delta', 'tries', 'losses',
  'lone_losses', 'alone', 'resumed', 'created', 'max_tries', 'max_losses', 'stream_ttl_ms', 'keep_ms', 'cache_ttl_ms',
  'dead_ttl_ms',
}
-- A completion is delivered for a day; what it needs outlives that.
local OUTBOX_TTL_MS = 25 * 3600 * 1000
-- The finished stream is a window, about this long, and expires when nothing ends for a week.
local FINISHED_LENGTH = 1000
local FINISHED_TTL_MS = 7 * 24 * 3600 * 1000
-- Attempts of a flight that are remembered, and the bytes of what was said of one that are.
local HISTORY_LENGTH = 20
local HISTORY_TEXT = 500
-- Dead letters that one end takes off their list, at most, when their time is over.
local DEAD_TRIMMED = 100

local function flight_key(id) return slot .. 'flight:' .. id end
local function members_key(id) return slot .. 'members:' .. id end
local function job_key(job) return slot .. 'job:' .. job end
local function sent_key(queue) return slot .. 'sent:' .. queue end
local function flying_key(fingerprint) return slot .. 'flying:' .. fingerprint end
local ledger_key, outbox_key, finished_key = slot .. 'ledger', slot .. 'outbox', slot .. 'finished'
local dead_key = slot .. 'dead'

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

local function last_deadline(flight)
  return tonumber(redis.call('ZRANGE', members_key(flight.id), -1, -1, 'WITHSCORES')[2] or 0)
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

-- Note how the attempt under way ended, with its code and what was `said`, for those who look at a dead letter.
local function note(flight, outcome, said, now)
  local message = said.message
  if message and #message > HISTORY_TEXT then
    -- not in the middle of a character
    message = string.gsub(string.sub(message, 1, HISTORY_TEXT), '[\192-\255]?[\128-\191]*$', '')
  end
  local found = redis.call('HGET', flight_key(flight.id), 'history')
  local history = found and cjson.decode(found) or {}
  if #history >= HISTORY_LENGTH then table.remove(history, 1) end
  history[#history + 1] = {
    attempt = flight.attempt, at = now, worker = string.match(flight.inbox or '', ':inbox:(.*)') or '',
    outcome = outcome, code = said.code, message = message, sealed = said.sealed,
  }
  redis.call('HSET', flight_key(flight.id), 'history', cjson.encode(history))
end

-- Void the token; the next claim tells readers why the text begins anew, or goes on.
local function end_attempt(flight, reason)
  redis.call('HDEL', flight_key(flight.id), 'token', 'alone', 'resumed')
  flight.token, flight.alone, flight.resumed = false, 0, 0
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

-- Note the end of one job: in the finished stream, and in the outbox when somebody is to be told.
local function conclude(flight, job, state, ending, now)
  local key = job_key(job)
  local found = redis.call('HMGET', key, 'flight', 'tenant', 'lane', 'on_done')
  local entry = redis.call('XADD', finished_key, 'MAXLEN', '~', FINISHED_LENGTH, '*', 'v', '1', 'job', job,
    'flight', flight.id, 'state', TERMINAL[state], 'tenant', found[2] or flight.tenant, 'lane', found[3] or flight.lane)
  keep_at_least(finished_key, FINISHED_TTL_MS)
  -- a job whose key has expired must not come back without a TTL
  if not found[1] then return end
  redis.call('HSET', key, 'finished', entry)
  if (found[4] or '') == '' then return end
  redis.call('HSET', key, 'done_state', TERMINAL[state], 'done_at', now, 'done_ending', ending)
  redis.call('ZADD', outbox_key, now, job)
  keep_at_least(key, OUTBOX_TTL_MS)
  keep_at_least(outbox_key, OUTBOX_TTL_MS)
end

-- How long a flight that ended is kept. One that failed keeps its request, unless a member has it stored nowhere.
local function retention(flight, state)
  if state ~= 'failed' or flight.store == 'none' then
    redis.call('HDEL', flight_key(flight.id), 'request')
    return flight.keep_ms
  end
  return flight.dead_ttl_ms > 0 and flight.dead_ttl_ms or flight.keep_ms
end

-- Put a flight on the list of those somebody may want to try again, for as long as it is kept.
local function bury(flight, kept_ms, now)
  redis.call('ZADD', dead_key, now + kept_ms, flight.id)
  keep_at_least(dead_key, kept_ms)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', dead_key, '-inf', now, 'LIMIT', 0, DEAD_TRIMMED)) do
    redis.call('ZREM', dead_key, id)
  end
end

-- Write the terminal event, note the end of every job aboard, and let go of everything but the answer. `ending` holds
-- the event's fields as a JSON object, for those who ask when the stream has expired. Returns whether that made a dead
-- letter: a failure that another try might not have.
local function finish(flight, state, detail, now)
  announce(flight, 'type', TERMINAL[state], unpack(detail))
  if flight.queue ~= '' then redis.call('ZREM', sent_key(flight.queue), flight.id) end
  local fields = {}
  for index = 1, #detail, 2 do fields[detail[index]] = detail[index + 1] end
  local ending = cjson.encode(fields)
  save(flight, 'state', state, 'queue', '', 'ending', ending, 'ended', now)
  -- how its attempts ended is of interest only where none succeeded
  local past = state == 'failed' and 'token' or 'history'
  redis.call('HDEL', flight_key(flight.id), 'token', 'until', 'alone', 'resumed', past)
  redis.call('ZREM', ledger_key, flight.id)
  local flying = flying_key(flight.fingerprint)
  if flight.fingerprint ~= '' and redis.call('GET', flying) == flight.id then redis.call('DEL', flying) end
  local kept_ms = retention(flight, state)
  for _, job in ipairs(redis.call('ZRANGE', members_key(flight.id), 0, -1)) do
    conclude(flight, job, state, ending, now)
    -- by its job a flight is found, also to be purged
    keep_at_least(job_key(job), kept_ms)
  end
  redis.call('PEXPIRE', flight_key(flight.id), kept_ms)
  redis.call('PEXPIRE', members_key(flight.id), math.max(kept_ms, flight.stream_ttl_ms))
  redis.call('PEXPIRE', flight.events, flight.stream_ttl_ms)
  local dead = state == 'failed' and fields.retryable == '1'
  if dead then bury(flight, kept_ms, now) end
  return dead
end

-- End a flight whose attempt ended after it had shown something, if its jobs take no other attempt after that. Returns
-- whether they do not, and what `finish` returns.
local function break_off(flight, why, now)
  if flight.on_interrupt ~= 'fail' or tonumber(flight.delta) ~= 1 then return false end
  return true, finish(flight, 'failed', {'code', 'interrupted', 'retryable', '1',
    'message', 'the attempt ended after its first output (' .. why .. '), and on_interrupt is "fail"'}, now)
end

-- Take one job off a flight. The last one ends it, and stays noted as the one whose end that was. Returns whether it
-- did.
local function depart(flight, job, reason, now)
  local mark = redis.call('HGET', job_key(job), 'mark')
  -- a job whose key has expired must not come back without a TTL
  if mark then redis.call('HSET', job_key(job), 'left', reason) end
  if redis.call('ZCARD', members_key(flight.id)) == 1 then
    call_off(flight)
    finish(flight, reason, {}, now)
    return true
  end
  redis.call('ZREM', members_key(flight.id), job)
  if mark then announce(flight, 'type', 'left', 'mark', mark, 'reason', reason) end
  conclude(flight, job, reason, '{}', now)
  return false
end
