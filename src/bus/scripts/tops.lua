-- Reads the positions of channels of one stream of the bus.
--
-- KEYS  those of `PlacesKeys`
-- ARGV  the names of the channels
-- Returns {epoch, n, then "incarnation:offset" for each channel}.
local KEYS_NAMED, meta_key, places_key, silent_key =
  3, unpack(KEYS, 1, 3)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta = redis.call('HMGET', meta_key, 'run', 'e', 'n', 'p', 's', 'f')
if meta[1] ~= run or meta[6] ~= '1' then
  return redis.error_reply('FENCED the stream belongs to another process')
end
local function fields(key)
  local found = redis.pcall('HLEN', key)
  return type(found) == 'number' and string.format('%.0f', found)
end
-- A channel whose place is lost looks like a new one, so the counts always have to match.
local lost = (fields(places_key) ~= meta[4] or fields(silent_key) ~= meta[5])
if lost then
  return redis.error_reply('FENCED places of channels are lost')
end
local places = redis.call('HMGET', places_key, '', unpack(ARGV))
local silent = redis.call('HMGET', silent_key, unpack(ARGV))
-- The position of a channel that has no publications yet.
local new = (string.match(places[1] or '', '^%d+') or '0') .. ':0'
local answer = {meta[2], meta[3]}
for at = 1, #ARGV do
  local state = places[at + 1] or silent[at]
  local ours = state and string.find(state, '^%d+:%d+$')
  answer[at + 2] = ours and state or new
end
return answer
