-- Take completions that are due, each for a while, in which nobody else delivers it. The same token gets the same again.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now in ms (0: the server's clock), 2 token, 3 how long they are taken in ms,
--       4 bytes of the longest result wanted, then the jobs
-- Returns for each job taken {job, flight, tenant, lane, deadline, on_done, traceparent, state, done_at, tries, ending,
--       result}, moments in ms; result is '' when it is longer, and for a job that has none: one that left a flight has
--       no part in what that came to.

local now = now_from(ARGV[1])
local token, taken_until, longest = ARGV[2], now + ARGV[3], tonumber(ARGV[4])
local FIELDS = {
  'flight', 'tenant', 'lane', 'deadline', 'on_done', 'traceparent', 'done_state', 'done_at', 'done_tries', 'done_ending',
}

local function result_of(id)
  if redis.call('HSTRLEN', flight_key(id), 'result') > longest then return '' end
  return redis.call('HGET', flight_key(id), 'result') or ''
end

local taken = {}
for index = 5, #ARGV do
  local job = ARGV[index]
  local due = tonumber(redis.call('ZSCORE', outbox_key, job) or math.huge)
  if due <= now or (due < math.huge and redis.call('HGET', job_key(job), 'done_token') == token) then
    local found = redis.call('HMGET', job_key(job), unpack(FIELDS))
    if found[1] then
      redis.call('HSET', job_key(job), 'done_token', token)
      redis.call('ZADD', outbox_key, taken_until, job)
      local completion = {job}
      for _, value in ipairs(found) do completion[#completion + 1] = value or '' end
      completion[#completion + 1] = found[7] == TERMINAL.succeeded and result_of(found[1]) or ''
      taken[#taken + 1] = completion
    else
      redis.call('ZREM', outbox_key, job)
    end
  end
end
return taken
