-- Let go of a dead letter: nobody will try it again.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now (unused: every script starts alike), 2 flight
-- Returns 'dropped', 'not_dead' (it is no dead letter, or was let go of before) or 'gone'.

local flight = load(ARGV[2])
local dead = redis.call('ZREM', dead_key, ARGV[2]) == 1
if not flight then return 'gone' end
if not dead then return 'not_dead' end
local key = flight_key(flight.id)
redis.call('HDEL', key, 'request', 'history')
if redis.call('PTTL', key) > flight.keep_ms then redis.call('PEXPIRE', key, flight.keep_ms) end
return 'dropped'
