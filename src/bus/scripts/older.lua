-- Reads back what channels of one stream of the bus have in histories of their own.
--
-- KEYS  1 meta, then for each channel: where it stands, its history
-- ARGV  1 bytes after which no more is read, then for each channel: the offset before which, most
--       publications, milliseconds that a publication is kept
-- Answers {epoch, then for each channel {its incarnation, 1 if nothing older is kept, then, the
-- newest first: offset, age in milliseconds, record ...}}.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta = redis.call('HMGET', KEYS[1], 'run', 'e')
if meta[1] ~= run then
  return redis.error_reply('FENCED the stream belongs to another process')
end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local left = tonumber(ARGV[1])
local PAGE = 16

local function read(state, history, before, count, ttl)
  local incarnation = type(state) == 'string' and string.match(state, '^(%d+):%d+$')
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

local answer = {meta[2]}
for channel = 1, (#KEYS - 1) / 2 do
  local state, at = redis.pcall('GET', KEYS[2 * channel]), 3 * channel - 1
  answer[channel + 1] = read(state, KEYS[2 * channel + 1], tonumber(ARGV[at]),
    tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
end
return answer
