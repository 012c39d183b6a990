-- Note the highest stamp popped from each queue, claimed or not.
--
-- KEYS: 1 hash of marks
-- ARGV: queue, stamp...
-- Returns nil.

local TTL_MS = 7 * 24 * 3600 * 1000

for index = 1, #ARGV, 2 do
  local highest = tonumber(redis.call('HGET', KEYS[1], ARGV[index]) or 0)
  if tonumber(ARGV[index + 1]) > highest then redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1]) end
end
redis.call('PEXPIRE', KEYS[1], TTL_MS)
