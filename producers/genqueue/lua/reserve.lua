-- Give an idempotency key its job, unless it has one; or replace the one it has, if that is still the one expected.
-- A replay changes nothing. Carries no allow-oom: it comes before new work.
--
-- KEYS: 1 key of the idempotency entry
-- ARGV: 1 entry wanted, 2 its time to live in ms, 3 entry to replace ('' replaces none)
-- Returns the entry in force now.

local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[3] then return found end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
