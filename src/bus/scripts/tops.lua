-- Where channels of one stream of the bus stand.
--
-- KEYS  1 meta, then one for each channel
-- ARGV  1 milliseconds that a silent channel keeps its offsets
-- Answers {epoch, n, then "incarnation:offset" for each channel}.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta = redis.call('HMGET', KEYS[1], 'run', 'e', 'n')
if meta[1] ~= run then
  return redis.error_reply('FENCED the stream belongs to another process')
end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- What a channel that nobody has published to will begin with.
local new = string.format('%.0f', math.floor(ms / tonumber(ARGV[1]))) .. ':0'
local answer = {meta[2], meta[3]}
for at = 2, #KEYS do
  local state = redis.pcall('GET', KEYS[at])
  local ours = type(state) == 'string' and string.find(state, '^%d+:%d+$')
  answer[at + 1] = ours and state or new
end
return answer
