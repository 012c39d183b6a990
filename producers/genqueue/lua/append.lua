-- Write entries of the attempt that holds the token. Entries written before are skipped, so a replay adds nothing.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now (unused: every script starts alike), 2 flight, 3 token, 4 number of the first entry (from 1), 5 count,
--       then for each entry the number of its fields and values, field, value...; the first field is `type`
-- Returns {'ok', written}, {'gap', written} (send again from written + 1), {'refused', 0} or {'gone', 0}.

local id = ARGV[2]
local key = slot .. 'flight:' .. id
local found = redis.call('HMGET', key, 'token', 'attempt', 'written', 'delta', 'last')
if found[1] ~= ARGV[3] then return {'refused', 0} end

local flight = {
  events = events_key(id), bell = bell(id),
  attempt = found[2], written = tonumber(found[3]), delta = found[4], last = found[5],
}
local status = write_entries(flight, tonumber(ARGV[4]), 5)
if status == 'gone' then return {'gone', 0} end
if flight.delta ~= found[4] then redis.call('HSET', key, 'delta', flight.delta) end
if flight.last ~= found[5] then redis.call('HSET', key, 'written', flight.written, 'last', flight.last) end
return {status, flight.written}
