-- Makes sure that one stream of the bus belongs to the server that replies, and that the server has
-- lost nothing on which positions rely. Otherwise it begins a new epoch, in these cases:
-- - The process is another one than before: after a restart, or as a promoted replica, it may not
--   have entries that were acknowledged.
-- - The stream ends before an entry that a node has read, so it has gone back.
-- - The stream has an entry that no node wrote.
-- - The place of a channel is lost, so the channel would get the same offsets twice.
--
-- KEYS  those of `FenceKeys`
-- ARGV  those of `FenceHead`
-- Returns {epoch, n, "same" or "new", the server's run_id, the last entry of the epoch before if
-- the stream still has it, or ''}, or the error "FORMAT" with the format of the stream.
local KEYS_NAMED, stream_key, meta_key, marks_key, places_key, silent_key =
  5, unpack(KEYS, 1, 5)
local ARGV_NAMED, seen_epoch, seen_number, format =
  3, unpack(ARGV, 1, 3)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta = redis.call('HMGET', meta_key, 'run', 'e', 'n', 'b', 'cut', 'p', 's', 't', 'f',
  'was')
if meta[1] and meta[9] ~= format then
  return redis.error_reply('FORMAT ' .. (meta[9] or '0'))
end
local seen_e, seen_n = tonumber(seen_epoch), tonumber(seen_number)
local last_e, last_n, was = 0, 0, ''
local info = redis.pcall('XINFO', 'STREAM', stream_key)
if not info.err then
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then
      local e, n = string.match(info[at + 1], '^(%d+)-(%d+)$')
      last_e, last_n = tonumber(e), tonumber(n)
    elseif info[at] == 'last-entry' and info[at + 1] then
      was = info[at + 1][1]
    end
  end
end
local function number(value)
  return string.format('%.0f', value)
end
local function fields(key)
  local found = redis.pcall('HLEN', key)
  return type(found) == 'number' and number(found)
end
local function generation(key)
  local text = redis.pcall('HGET', key, '')
  return tonumber(type(text) == 'string' and string.match(text, '^%d+') or 0)
end

local e, n, began = tonumber(meta[2] or nil), tonumber(meta[3] or nil), tonumber(meta[8] or nil)
local whole = e and n and began and tonumber(meta[4] or nil) and tonumber(meta[5] or nil)
local lost = (fields(places_key) ~= meta[6] or fields(silent_key) ~= meta[7])
local behind = whole and (e < seen_e or e == seen_e and n < seen_n)
-- Whether the last entry is one that a node wrote: none has a higher number than meta says.
local ours = whole and (last_e < e or last_e == e and last_n <= n)
if meta[1] == run and ours and not behind and not lost and generation(places_key) > 0 then
  return {meta[2], meta[3], 'same', run, meta[10] or ''}
end
-- Entries of the last epoch were acknowledged, and readers that have not reached its end still read
-- them. But a process that has gone back has given some numbers twice, so its entries are removed.
local kept = ours and not (meta[1] == run and behind)
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local EPOCH_MAX = 2 ^ 52
if last_e > EPOCH_MAX then
  -- No clock yields such an id, and no entry could follow it.
  redis.call('DEL', stream_key)
  last_e = 0
end
-- The stream may have an epoch that meta has lost, and accepts no lower id.
e = math.max(ms * 1024, seen_e, e or 0, last_e)
-- Two servers that do not know of each other must not begin the same epoch.
e = number(e + 1 + tonumber(string.sub(run, 1, 4), 16) % 1024)
-- The last ingested places are kept in each epoch, so that repeats are still recognised.
local ingested = {}
local all = redis.call('HGETALL', meta_key)
for at = 1, #all, 2 do
  if string.sub(all[at], 1, 2) == 'i:' then
    ingested[#ingested + 1] = all[at]
    ingested[#ingested + 1] = all[at + 1]
  end
end
-- Above the incarnation of every channel, even if only one of the two hashes is left.
local new = math.max(generation(places_key), generation(silent_key)) + 1
redis.call('DEL', meta_key)
for _, key in ipairs({places_key, silent_key}) do
  if not fields(key) then
    redis.call('DEL', key)
  end
end
redis.call('HSET', places_key, '', number(new) .. ' is the generation with which channels begin. '
  .. 'A text of this length has Redis keep a table, and not a list that it would search.')
if not kept then
  was = ''
  redis.call('DEL', marks_key)
  redis.call('XTRIM', stream_key, 'MINID', e .. '-0')
end
redis.call('HSET', meta_key, 'run', run, 'e', e, 'n', '0', 'b', kept and meta[4] or '0',
  'cut', kept and meta[5] or '0', 'p', fields(places_key), 's', fields(silent_key),
  't', number(began or ms), 'f', format, 'was', was, unpack(ingested))
return {e, '0', 'new', run, was}
