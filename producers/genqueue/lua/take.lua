-- Give a consumer of a group jobs that ended: those it was given and has not acknowledged, those another consumer left,
-- and those nobody in the group has had. Makes the group.
--
-- KEYS: 1 slot prefix
-- ARGV: 1 now (unused: every script starts alike), 2 group, 3 consumer, 4 most entries returned, 5 where a new group
--       begins (0: with the oldest kept, $: with what ends from now on), 6 whether its own come first (0, 1), 7 how long
--       in ms another consumer may have been silent about one ('' leaves those alone)
-- Returns {whether these are its own (0, 1), {{id, {field, value...}}...}}.

local TTL_MS = 7 * 24 * 3600 * 1000
local key, group, consumer, most = slot .. 'finished', ARGV[2], ARGV[3], ARGV[4]

local function read(from)
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most, 'STREAMS', key, from)
  if not reply or #reply == 0 then return {} end
  -- of a list of streams the first; fakeredis, on which genqueue.testing stands, leaves out the list
  return type(reply[1]) == 'table' and reply[1][2] or reply[2]
end

-- An entry may have left the stream before it was acknowledged: purged, or out of its window.
local function present(entries)
  local found = {}
  for _, entry in ipairs(entries) do
    if entry[2] then found[#found + 1] = entry else redis.call('XACK', key, group, entry[1]) end
  end
  return found
end

-- refused when there is the group already
redis.pcall('XGROUP', 'CREATE', key, group, ARGV[5], 'MKSTREAM')
if redis.call('PTTL', key) < 0 then redis.call('PEXPIRE', key, TTL_MS) end
if ARGV[6] == '1' then
  local own = present(read('0'))
  if #own > 0 then return {1, own} end
end
local fresh = read('>')
if ARGV[7] ~= '' then
  for _, entry in ipairs(present(redis.call('XAUTOCLAIM', key, group, consumer, ARGV[7], '0-0', 'COUNT', most)[2])) do
    fresh[#fresh + 1] = entry
  end
end
return {0, fresh}
