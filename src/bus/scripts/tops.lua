-- Where channels of one stream of the bus stand.
--
-- KEYS  1 meta, 2 places, 3 silent
-- ARGV  the names of the channels
-- Answers {epoch, n, then "incarnation:offset" for each channel}.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta = redis.call('HMGET', KEYS[1], 'run', 'e', 'n', 'p', 's', 'f')
if meta[1] ~= run or meta[6] ~= '1' then
  return redis.error_reply('FENCED the stream belongs to another process')
end
local function fields(key)
  local found = redis.pcall('HLEN', key)
  return type(found) == 'number' and string.format('%.0f', found)
end
local lost = (fields(KEYS[2]) ~= meta[4] or fields(KEYS[3]) ~= meta[5])
if lost then
  return redis.error_reply('FENCED places of channels are lost')
end
local places = redis.call('HMGET', KEYS[2], '', unpack(ARGV))
local silent = redis.call('HMGET', KEYS[3], unpack(ARGV))
-- What a channel that nobody has published to will begin with.
local new = (string.match(places[1] or '', '^%d+') or '0') .. ':0'
local answer = {meta[2], meta[3]}
for at = 1, #ARGV do
  local state = places[at + 1] or silent[at]
  local ours = state and string.find(state, '^%d+:%d+$')
  answer[at + 2] = ours and state or new
end
return answer
