-- Acknowledge one entry of the finished stream for a group, and ask for the next to be the consumer's from now on.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now (unused: every script starts alike), 2 group, 3 consumer, 4 id of the entry acknowledged ('' none),
--       5 id of the entry asked for ('' none)
-- Returns 1 when the entry asked for is the consumer's still, else 0.

local key, group, consumer, done, wanted = slot .. 'finished', ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if done ~= '' then redis.call('XACK', key, group, done) end
if wanted == '' then return 0 end
local pending = redis.pcall('XPENDING', key, group, wanted, wanted, 1, consumer)
if pending.err or #pending == 0 then return 0 end
redis.call('XCLAIM', key, group, consumer, 0, wanted, 'JUSTID')
return 1
