-- Say what became of a completion that was taken, once for each time it was.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 job, 3 token it was taken with,
--       4 outcome (delivered, dropped, failed: another try, waits: the same without counting it), 5 delay until then in ms
-- Returns 'ok', or 'refused': it was delivered, or somebody else has taken it since.

local now = now_from(ARGV[1])
local job, outcome = ARGV[2], ARGV[4]
local key = job_key(job)

-- Whoever delivered it, it is delivered; only who has taken it may say anything else.
if outcome ~= 'delivered' and redis.call('HGET', key, 'done_token') ~= ARGV[3] then return 'refused' end
if outcome == 'delivered' or outcome == 'dropped' then
  redis.call('HDEL', key, 'done_token', 'on_done', 'done_ending')
  return redis.call('ZREM', outbox_key, job) == 1 and 'ok' or 'refused'
end
redis.call('HDEL', key, 'done_token')
if outcome == 'failed' then redis.call('HINCRBY', key, 'done_tries', 1) end
redis.call('ZADD', outbox_key, 'XX', now + ARGV[5], job)
return 'ok'
