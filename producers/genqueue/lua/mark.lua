-- Note the highest stamp popped from each queue, claimed or not.
--
-- KEYS: 1 hash of marks
-- ARGV: queue, stamp...
-- Returns nil.

local TTL_MS = 7 * 24 * 3600 * 1000
-- A stamp later than the clock by more than this is not ours: as a mark it would condemn every backlog.
local AHEAD_MS = 60000

local time = redis.call('TIME')
local latest = time[1] * 1000 + AHEAD_MS
for index = 1, #ARGV, 2 do
  local highest = tonumber(redis.call('HGET', KEYS[1], ARGV[index]) or 0)
  local stamp = tonumber(ARGV[index + 1])
  if stamp > highest and stamp < latest then redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1]) end
end
redis.call('PEXPIRE', KEYS[1], TTL_MS)
