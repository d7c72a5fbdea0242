-- Appends events, and drops the oldest ones above a number of entries and of bytes.
--
-- KEYS  the stream, then marks: a list of "<id of an entry> <bytes up to it>" from the oldest on.
--       The last mark moves with the end of the stream
-- ARGV  maximum entries, maximum bytes, then for each entry the number of its texts and the texts
local stream, marks = unpack(KEYS)
local entries_max, bytes_max = ARGV[1], tonumber(ARGV[2])
local ARGV_NAMED = 2
local function bytes_until(at)
  local mark = redis.pcall('LINDEX', marks, at)
  return type(mark) == 'string' and tonumber(string.match(mark, '^%d+%-%d+ (%d+)$') or nil)
end
-- Approximate bytes that an entry and each of its texts cost beside the text itself.
local ENTRY_BYTES, TEXT_BYTES = 24, 4

local last = bytes_until(-1)
if not last then
  -- There are no marks, or they are not ours. The size of the stream is unknown, so its entries are
  -- trimmed once `bytes_max` more bytes have followed.
  redis.call('DEL', marks)
end
local total, id = last or 0, nil
local at = ARGV_NAMED + 1
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  id = redis.call('XADD', stream, 'MAXLEN', '~', entries_max, '*', unpack(ARGV, at + 1, at + count))
  total = total + ENTRY_BYTES
  for text = at + 1, at + count do
    total = total + #ARGV[text] + TEXT_BYTES
  end
  at = at + count + 1
end
local mark = id .. ' ' .. string.format('%.0f', total)
-- A mark for each part of the limit, so that the list stays short.
local MARKS = 64
if last and last - (bytes_until(-2) or 0) < bytes_max / MARKS then
  redis.call('LSET', marks, -1, mark)
else
  redis.call('RPUSH', marks, mark)
end
local first = bytes_until(0)
while first and total - first >= bytes_max do
  local ms, seq = string.match(redis.call('LPOP', marks), '^(%d+)%-(%d+) ')
  redis.call('XTRIM', stream, 'MINID', ms .. '-' .. string.format('%.0f', tonumber(seq) + 1))
  first = bytes_until(0)
end
return at
