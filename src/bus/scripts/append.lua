-- Appends a batch to one stream of the bus: atomically, and once however often it is sent.
--
-- KEYS  1 stream, 2 meta, 3 marks, 4 publisher, then one for each channel, then one for each
--       idempotency key and each history
-- ARGV  1 the publisher's number for the batch, 2 bytes that the stream may have, 3 milliseconds
--       that a silent channel keeps its offsets, 4 that a publisher is known, 5 that an idempotency
--       key is known, 6 number of channels, 7 an ingest stream or '', 8 "publication=history:most publications:
--       milliseconds that it is kept ..." where a channel has one ("0:0": it is forgotten)
--       then for each publication: number of its channel (0: it gets no offset), number of its
--       idempotency key (0: none), after its place in the ingest stream if it has one
--       ("i<ms>-<seq>-<part>:<number>"), the record
-- Answers {"ok" or "dup", epoch, n, "channel=incarnation:offset before ...", "publication=epoch:
-- incarnation:offset ..." of those that were repeats}.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta = redis.call('HMGET', KEYS[2], 'run', 'e', 'n', 'b', 'm', 'i:' .. ARGV[7])
if meta[1] ~= run then
  return redis.error_reply('FENCED the stream belongs to another process')
end
local e, seq = meta[2], tonumber(ARGV[1])
local last = 0
local before = redis.call('GET', KEYS[4])
if before then
  -- The epoch in which it was appended may have ended since.
  local number, epoch, n, bases, repeats =
    string.match(before, '^(%d+) (%d+) (%d+) ([^|]*)|(.*)$')
  last = tonumber(number)
  if last == seq then
    return {'dup', epoch, n, bases, repeats}
  end
end
if seq ~= last + 1 then
  return redis.error_reply('OUTOFORDER ' .. string.format('%.0f', last))
end

local function number(value)
  return string.format('%.0f', value)
end

local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- A channel that is forgotten begins anew in a later period, so no position comes twice.
local period = number(math.floor(ms / tonumber(ARGV[3])))
local channels = tonumber(ARGV[6])
local incarnation, top, order, bases, records, repeats = {}, {}, {}, {}, {}, {}
local bytes = 128
local function place(text)
  local a, b, part = string.match(text, '(%d+)-(%d+)-(%d+)$')
  return {tonumber(a), tonumber(b), tonumber(part)}
end
local ingested = meta[6] and place(meta[6]) or {0, 0, 0}
local function is_ingested(one)
  for at = 1, 3 do
    if one[at] ~= ingested[at] then
      return one[at] < ingested[at]
    end
  end
  return true
end
local ingested_last
local histories = {}
for one, key, size, ttl in string.gmatch(ARGV[8], '(%d+)=(%d+):(%d+):(%d+)') do
  histories[tonumber(one)] = {KEYS[4 + channels + tonumber(key)], size, ttl}
end
local function keep(history, id, record)
  local key, size, ttl = unpack(history)
  if size == '0' then
    return redis.call('DEL', key)
  end
  local added = redis.pcall('XADD', key, 'MAXLEN', size, id, 't', number(ms), 'd', record)
  if type(added) == 'table' and added.err then
    if not string.find(added.err, 'equal or smaller') then
      return added
    end
    -- It is of a life of the channel that Redis has forgotten.
    redis.call('DEL', key)
    redis.call('XADD', key, id, 't', number(ms), 'd', record)
  end
  redis.call('PEXPIRE', key, ttl)
end
local at, index = 9, 0
while ARGV[at] do
  local c, once, record = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local at_place, key = string.match(once, '^i([%d-]+):(%d+)$')
  key = tonumber(key or once)
  local first = false
  if at_place then
    local one = place(at_place)
    if is_ingested(one) then
      first = '-'
    else
      ingested, ingested_last = one, at_place
    end
  end
  if not first and key > 0 then
    first = redis.call('GET', KEYS[4 + channels + key])
  end
  if first then
    repeats[#repeats + 1] = index .. '=' .. first
  else
    local position = '-'
    if c > 0 then
      if not top[c] then
        local state = redis.call('GET', KEYS[4 + c])
        if state then
          local i, s = string.match(state, '^(%d+):(%d+)$')
          incarnation[c], top[c] = i, tonumber(s)
        else
          incarnation[c], top[c] = period, 0
        end
        order[#order + 1] = c
        bases[#bases + 1] = c .. '=' .. incarnation[c] .. ':' .. number(top[c])
      end
      top[c] = top[c] + 1
      position = e .. ':' .. incarnation[c] .. ':' .. number(top[c])
    end
    if histories[index] then
      local failed = keep(histories[index], c > 0 and incarnation[c] .. '-' .. number(top[c]), record)
      if type(failed) == 'table' then
        return failed
      end
    end
    records[#records + 1] = record
    bytes = bytes + #record
    if key > 0 then
      redis.call('SET', KEYS[4 + channels + key], position, 'PX', ARGV[5])
    end
  end
  at, index = at + 3, index + 1
end

local n = tonumber(meta[3])
if #records > 0 then
  n = n + 1
  local starts = {}
  for at, c in ipairs(order) do
    redis.call('SET', KEYS[4 + c], incarnation[c] .. ':' .. number(top[c]), 'PX', ARGV[3])
    starts[at] = string.match(bases[at], '=(.*)$')
  end
  redis.call('XADD', KEYS[1], e .. '-' .. number(n), 't', number(ms), 'c',
    table.concat(starts, ' '), 'd', table.concat(records))
  local total, marked = tonumber(meta[4]) + bytes, tonumber(meta[5])
  local bytes_max = tonumber(ARGV[2])
  if total - marked >= bytes_max / 64 then
    -- The stream is cut at marks, so that counting its bytes costs next to nothing.
    marked = total
    redis.call('RPUSH', KEYS[3], number(n) .. ':' .. number(total))
    local mark = redis.call('LINDEX', KEYS[3], 0)
    while mark do
      local until_n, until_total = string.match(mark, '^(%d+):(%d+)$')
      if total - tonumber(until_total) < bytes_max then
        break
      end
      redis.call('LPOP', KEYS[3])
      redis.call('XTRIM', KEYS[1], 'MINID', e .. '-' .. number(tonumber(until_n) + 1))
      mark = redis.call('LINDEX', KEYS[3], 0)
    end
  end
  redis.call('HSET', KEYS[2], 'n', number(n), 'b', number(total), 'm', number(marked))
end
if ingested_last then
  redis.call('HSET', KEYS[2], 'i:' .. ARGV[7], ingested_last)
end
bases, repeats = table.concat(bases, ' '), table.concat(repeats, ' ')
redis.call('SET', KEYS[4],
  ARGV[1] .. ' ' .. e .. ' ' .. number(n) .. ' ' .. bases .. '|' .. repeats, 'PX', ARGV[4])
return {'ok', e, number(n), bases, repeats}
