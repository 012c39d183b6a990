-- Renew the lease of a token. The ledger is not moved later here: the next sweep sees the lease and does that once
-- per lease instead of once per renewal. It is moved earlier when a join made the lane, and so the lease, more urgent.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 flight, 3 token, 4 lease in ms
-- Returns {'ok', lane}, the lane whose lease the next renewal asks for, or {'refused', ''}.

local now = now_from(ARGV[1])
local key = slot .. 'flight:' .. ARGV[2]
local found = redis.call('HMGET', key, 'token', 'lane')
if found[1] ~= ARGV[3] then return {'refused', ''} end

local lease = now + ARGV[4]
redis.call('HSET', key, 'lease', lease)
redis.call('ZADD', slot .. 'ledger', 'XX', 'LT', lease, ARGV[2])
return {'ok', found[2]}
