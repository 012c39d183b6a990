-- In front of every script but mark: the slot, the clock and the writing of a flight's stream.

local slot = KEYS[1]
-- With more bytes of fields than this a ring carries only the ids; its readers fetch the entry from the stream.
local RING_LIMIT = 4096

local function now_from(argument)
  local given = tonumber(argument)
  if given > 0 then return given end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function events_key(id) return slot .. 'events:' .. id end
local function bell(id) return slot .. 'bell:' .. id end

-- Append one entry and ring with the id before it, so that a reader sees whether it missed any. Uses events and bell
-- of `flight`, moves its last. Returns false when the stream has expired: XADD must not bring it back without a TTL.
local function add_entry(flight, fields)
  local entry = redis.call('XADD', flight.events, 'NOMKSTREAM', '*', unpack(fields))
  if not entry then return false end
  local size = 0
  for index = 1, #fields do size = size + #fields[index] end
  redis.call('PUBLISH', flight.bell, cjson.encode({flight.last, entry, size <= RING_LIMIT and fields}))
  flight.last = entry
  return true
end

-- Write the entries that start at ARGV[position] (count, then for each the number of its fields and values, field,
-- value...), numbered from `first`. Those already written are skipped. Updates last, written and delta of `flight`.
-- Returns 'ok', 'gap' when numbers before `first` are missing (nothing is written), 'gone' without a stream.
local function write_entries(flight, first, position)
  if first > flight.written + 1 then return 'gap' end
  local attempt = tostring(flight.attempt)
  local size_at = position + 1
  for number = first, first + ARGV[position] - 1 do
    local last_at = size_at + ARGV[size_at]
    if number > flight.written then
      local kind = ARGV[size_at + 2]
      local written = add_entry(flight, {
        'type', kind, 'v', '1', 'attempt', attempt, 'n', tostring(number), unpack(ARGV, size_at + 3, last_at)
      })
      if not written then return 'gone' end
      flight.written = number
      -- a reader has something to discard when another attempt begins
      if kind ~= 'started' then flight.delta = '1' end
    end
    size_at = last_at + 1
  end
  return 'ok'
end
