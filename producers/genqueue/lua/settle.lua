-- End a token, once: the attempt's last entries, then what becomes of the flight. A replay learns what became of it.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 flight, 3 token,
--       4 outcome (succeeded, failed, cancelled, retry, interrupted), 5 delay of a retry, or of what is handed back, in
--       ms, 6 result ('' without),
--       7 replay: JSON array of entries, each a flat array of field and value ('': not to be cached),
--       8 number of fields and values of the terminal event, field, value...,
--       then number of the first entry, count and entries as in append
-- Returns {status, x, queue, stamp}, '' where there is nothing to say; queue and stamp when there is something to
--       publish. Status: succeeded, failed (x: dead, when it may be tried again as another job), cancelled, waiting,
--       queued, already (x: the state), gap (x: written), refused, gone.

local now = now_from(ARGV[1])
local token, outcome, result, replay = ARGV[3], ARGV[4], ARGV[6], ARGV[7]
local detail = {unpack(ARGV, 9, 8 + ARGV[8])}
local entries = 9 + ARGV[8]
local flight = load(ARGV[2])
local said = {}
for index = 1, #detail, 2 do said[detail[index]] = detail[index + 1] end

local function reply(status, x)
  local queued = flight and flight.queue ~= ''
  return {status, x or '', queued and flight.queue or '', queued and tostring(flight.stamp) or ''}
end

local function succeed()
  finish(flight, 'succeeded', detail, now)
  save(flight, 'result', result)
  local shared = flight.fingerprint ~= '' and (flight.cache == 'use' or flight.cache == 'refresh')
  -- under memory pressure kept answers are the first to go
  if shared and replay ~= '' and last_pressure() == 0 then
    local key = cache_key(flight.fingerprint)
    redis.call('HSET', key, 'events', replay, 'completed', cjson.encode(detail), 'result', result,
      'tenant', flight.tenant, 'flight', flight.id)
    redis.call('PEXPIRE', key, flight.cache_ttl_ms)
    redis.call('ZADD', cached_key, now + flight.cache_ttl_ms, flight.fingerprint)
    keep_at_least(cached_key, flight.cache_ttl_ms)
  end
  return reply('succeeded')
end

local function failed(dead)
  return reply('failed', dead and 'dead' or '')
end

local function fail()
  note(flight, 'failed', said, now)
  return failed(finish(flight, 'failed', detail, now))
end

local function cancel()
  finish(flight, 'cancelled', detail, now)
  return reply('cancelled')
end

-- Nobody works on it before a moment; then the sweep queues it.
local function wait_until(moment, reason)
  announce(flight, 'type', 'waiting', 'reason', reason, 'until', moment, 'code', said.code or '')
  save(flight, 'state', 'waiting', 'until', moment)
  look_at(flight, math.min(moment, first_deadline(flight)), now)
  return reply('waiting')
end

local function retry()
  save(flight, 'tries', flight.tries + 1)
  note(flight, 'retry', said, now)
  local moment = now + ARGV[5]
  -- when its moment comes nobody would want it any more
  if flight.tries >= flight.max_tries or moment >= last_deadline(flight) then
    return failed(finish(flight, 'failed', detail, now))
  end
  local broken, dead = break_off(flight, said.code or 'retry', now)
  if broken then return failed(dead) end
  end_attempt(flight, 'retry')
  return wait_until(moment, 'retry')
end

local function hand_back()
  note(flight, 'interrupted', said, now)
  local broken, dead = break_off(flight, 'handed back', now)
  if broken then return failed(dead) end
  end_attempt(flight, 'interrupted')
  if tonumber(ARGV[5]) > 0 then return wait_until(now + ARGV[5], 'interrupted') end
  publish_again(flight, now)
  return reply('queued')
end

local conclude = ({
  succeeded = succeed, failed = fail, cancelled = cancel, retry = retry, interrupted = hand_back,
})[outcome]
if not conclude then return redis.error_reply('ERR unknown outcome ' .. outcome) end
if not flight then return reply('gone') end
if flight.settled_by == token then return reply('already', flight.state) end
if flight.token ~= token then return reply('refused') end
if write_entries(flight, tonumber(ARGV[entries]), entries + 1) == 'gap' then return reply('gap', flight.written) end
save(flight, 'settled_by', token, 'written', flight.written, 'last', flight.last, 'delta', flight.delta)
return conclude()
