-- Between lib.lua and the scripts that mind the server's memory: how full it is, and the answers kept for equal
-- questions, which go first.

-- How long one look at the memory counts.
local PRESSURE_MS = 1000
local pressure_key, cached_key = slot .. 'pressure', slot .. 'cached'

local function cache_key(fingerprint) return slot .. 'cache:' .. fingerprint end

-- Percent of its memory that this node has used, as the server itself compares it with its limit. 0 without a limit,
-- and where INFO is not allowed.
local function percent_used()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return 0 end
  local limit = tonumber(string.match(info, '\nmaxmemory:(%d+)') or 0)
  if limit == 0 then return 0 end
  local buffers = tonumber(string.match(info, '\nmem_not_counted_for_evict:(%d+)') or 0)
  return (tonumber(string.match(info, '\nused_memory:(%d+)')) - buffers) * 100 / limit
end

local function level_at(used, high_water)
  return math.max(0, math.min(3, math.floor((used - high_water) * 3 / (100 - high_water)) + 1))
end

-- Returns 0 below the high-water mark (in percent; 100 is never reached), else 1, 2 or 3, in equal steps up to the
-- limit; and the percent used. Counts for a second, unless it is wanted `anew`.
local function pressure(high_water, anew)
  if high_water >= 100 then return 0, 0 end
  local used = not anew and tonumber(string.match(redis.call('GET', pressure_key) or '', ' (.*)'))
  if not used then
    used = percent_used()
    -- a sweep looks anyway: without a limit it has nothing to tell
    local told = string.format('%d %.1f', level_at(used, high_water), used)
    if used > 0 or not anew then redis.call('SET', pressure_key, told, 'PX', PRESSURE_MS) end
  end
  return level_at(used, high_water), used
end

-- Returns the level somebody has seen within the last second, 0 when nobody looked.
local function last_pressure()
  return tonumber(string.sub(redis.call('GET', pressure_key) or '0', 1, 1))
end

-- Let go of up to `limit` answers: of all those that have expired, or of those that will expire first.
local function forget_answers(highest, limit)
  for _, fingerprint in ipairs(redis.call('ZRANGEBYSCORE', cached_key, '-inf', highest, 'LIMIT', 0, limit)) do
    redis.call('DEL', cache_key(fingerprint))
    redis.call('ZREM', cached_key, fingerprint)
  end
end
