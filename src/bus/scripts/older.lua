-- Reads publications from the durable histories of channels of one stream of the bus.
--
-- KEYS  those of `PlacesKeys`, then the history of each channel
-- ARGV  those of `OlderHead`, then for each channel: its name, the offset before which to read,
--       maximum number of publications, milliseconds for which a publication is kept
-- Returns {epoch, then for each channel {its incarnation, 1 if nothing older is kept, then from the
-- newest: offset, age in milliseconds, record ...}}.
local KEYS_NAMED, meta_key, places_key, silent_key =
  3, unpack(KEYS, 1, 3)
local ARGV_NAMED, bytes_max =
  1, unpack(ARGV, 1, 1)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta = redis.call('HMGET', meta_key, 'run', 'e', 'f')
if meta[1] ~= run or meta[3] ~= '1' then
  return redis.error_reply('FENCED the stream belongs to another process')
end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local left = tonumber(bytes_max)
-- Pages are small, because the limit in bytes may end a read early.
local PAGE = 16

local function read(state, history, before, count, ttl)
  local incarnation = state and string.match(state, '^(%d+):%d+$')
  if not incarnation then
    return {'0', 1}
  end
  local found, over = {incarnation, 0}, false
  local last = before - 1
  while not over and count > 0 and last > 0 and left > 0 do
    local most = math.min(count, PAGE)
    local newest = incarnation .. '-' .. string.format('%.0f', last)
    local page =
      redis.pcall('XREVRANGE', history, newest, incarnation .. '-1', 'COUNT', most)
    over = #page < most
    for _, entry in ipairs(page) do
      local offset, age = string.match(entry[1], '-(%d+)$'), ms - (tonumber(entry[2][2]) or 0)
      if age >= ttl then
        over = true
        break
      end
      found[#found + 1] = offset
      found[#found + 1] = string.format('%.0f', math.max(age, 0))
      local record = entry[2][4] or ''
      found[#found + 1] = record
      left, count, last = left - #record - 64, count - 1, tonumber(offset) - 1
      if left <= 0 then
        break
      end
    end
  end
  if over or count == 0 or last == 0 then
    found[2] = 1
  end
  return found
end

-- A key of another type was not written by a node.
local function where(key, name)
  local state = redis.pcall('HGET', key, name)
  return type(state) == 'string' and state
end

local answer = {meta[2]}
for channel = 1, #KEYS - KEYS_NAMED do
  local at = ARGV_NAMED + 4 * (channel - 1) + 1
  local state = where(places_key, ARGV[at]) or where(silent_key, ARGV[at])
  answer[channel + 1] = read(state, KEYS[KEYS_NAMED + channel], tonumber(ARGV[at + 1]),
    tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
end
return answer
