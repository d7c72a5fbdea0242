-- Appends a batch to one stream of the bus: atomically, and only once however often it is sent.
--
-- KEYS  those of `AppendKeys`, then one for each idempotency key and each history
-- ARGV  those of `AppendHead`, then the names of the channels, then for each publication:
--       - the number of its channel, or 0 if it gets no offset
--       - the number of its idempotency key, or 0; for an ingested publication with its place in
--         front: "i<ms>-<sequence>-<part>:<number>"
--       - the record
-- Returns {"ok" or "dup", epoch, n, "channel=incarnation:offset ..." as before the batch,
-- "publication=epoch:incarnation:offset ..." of repeats}.
local KEYS_NAMED, stream_key, meta_key, marks_key, publisher_key, places_key, silent_key =
  6, unpack(KEYS, 1, 6)
local ARGV_NAMED, batch, stream_bytes_max, silent_millis, publisher_millis, idempotency_millis,
  channel_count, ingest_name, history_list, epoch, seen, again =
  11, unpack(ARGV, 1, 11)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta =
  redis.call('HMGET', meta_key, 'run', 'e', 'n', 'b', 'cut', 't', 'f', 'i:' .. ingest_name)
local n, total = tonumber(meta[3] or nil), tonumber(meta[4] or nil)
local marked, began = tonumber(meta[5] or nil), tonumber(meta[6] or nil)
-- A restarted server or a promoted replica may have lost entries. `fence.lua` finds out.
if meta[1] ~= run or not (meta[2] and n and total and marked and began) or meta[7] ~= '1' then
  return redis.error_reply('FENCED the stream belongs to another process')
end
-- A key of another type was not written by a node, and is overwritten.
local function get(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end

local e, seq = meta[2], tonumber(batch)
local last = 0
local before = get(publisher_key)
if before then
  -- The epoch in which the batch was appended may have ended since.
  local number, its_epoch, n, bases, repeats =
    string.match(before, '^(%d+) (%d+) (%d+) ([^|]*)|(.*)$')
  last = tonumber(number or 0)
  if last == seq then
    return {'dup', its_epoch, n, bases, repeats}
  end
end
if e ~= epoch then
  -- The stream may have lost entries, and an earlier sending of this batch may be one of them.
  return redis.error_reply('FENCED the stream has begun another epoch')
end
if n < tonumber(seen) then
  return redis.error_reply('FENCED the stream was set back')
end
if seq ~= last + 1 then
  return redis.error_reply('OUTOFORDER ' .. string.format('%.0f', last))
end

-- The first batch of a publisher leaves the publisher's name in its entry. If it is sent again and
-- the publisher is unknown, either the batch never arrived, or Redis has lost the counter. The
-- entries since the first sending show which, unless there are too many to look at.
local publisher = string.sub(publisher_key, -16)
local LOOK = 64
local function may_be_there()
  local found =
    redis.pcall('XRANGE', stream_key, '(' .. e .. '-' .. again, '+', 'COUNT', LOOK + 1)
  if found.err or #found > LOOK or #found ~= n - tonumber(again) then
    return true
  end
  for _, entry in ipairs(found) do
    if entry[2][7] == 'p' and entry[2][8] == publisher then
      return true
    end
  end
end
if not before and again ~= '' and may_be_there() then
  return redis.error_reply('OUTOFORDER 0')
end

local function number(value)
  return string.format('%.0f', value)
end

local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Adds a record to a history, or removes the history.
local function keep(history, id, record)
  local key, size, ttl = unpack(history)
  if size == '0' then
    return redis.call('DEL', key)
  end
  local added = redis.pcall('XADD', key, 'MAXLEN', size, id, 't', number(ms), 'd', record)
  if type(added) == 'table' and added.err then
    -- The stream there is from another incarnation of the channel, or it is no history.
    redis.call('DEL', key)
    redis.call('XADD', key, id, 't', number(ms), 'd', record)
  end
  redis.call('PEXPIRE', key, ttl)
end

local channels = tonumber(channel_count)
local places = {}
if channels > 0 then
  places = redis.pcall('HMGET', places_key, unpack(ARGV, ARGV_NAMED + 1, ARGV_NAMED + channels))
end
-- Returns the number of fields of a hash, as a text like those in meta.
local function fields(key)
  local found = redis.pcall('HLEN', key)
  return type(found) == 'number' and number(found)
end
-- Returns the generation with which new channels begin, or false if places are lost. This matters
-- if a channel has no place: if its place is lost, it would get the same offsets twice in this
-- epoch.
local function find_generation()
  local counts = redis.call('HMGET', meta_key, 'p', 's')
  local lost = (fields(places_key) ~= counts[1] or fields(silent_key) ~= counts[2])
  return not lost and string.match(redis.call('HGET', places_key, '') or '', '^%d+')
end

local incarnation, top, order, starts, records, repeats = {}, {}, {}, {}, {}, {}
-- Channels that were silent, the number of new ones, and the generation with which they begin.
local woken, begun, generation = {}, 0, nil

-- Finds the place of channel `c`. Returns nil if it is lost.
local function find(c)
  local name = ARGV[ARGV_NAMED + c]
  local state = places[c]
  if not state then
    generation = generation or find_generation()
    if not generation then
      return
    end
    state = redis.call('HGET', silent_key, name)
    if state then
      woken[#woken + 1] = name
    else
      state, begun = generation .. ':0', begun + 1
    end
  end
  local i, s = string.match(state, '^(%d+):(%d+)$')
  incarnation[c], top[c] = i, tonumber(s)
  order[#order + 1] = c
  starts[#starts + 1] = state
  return i
end

local bytes = 128
local function place(text)
  local a, b, part = string.match(text, '(%d+)-(%d+)-(%d+)$')
  return {tonumber(a), tonumber(b), tonumber(part)}
end
local ingested = meta[8] and place(meta[8]) or {0, 0, 0}
-- Ingested publications come in order, so the stream has all of them up to the last one.
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
for one, key, size, ttl in string.gmatch(history_list, '(%d+)=(%d+):(%d+):(%d+)') do
  histories[tonumber(one)] = {KEYS[KEYS_NAMED + tonumber(key)], size, ttl}
end
-- Idempotency keys and records for histories. They are written only after the stream has accepted
-- the batch, because that may fail.
local keys, kept = {}, {}
local at, index = ARGV_NAMED + channels + 1, 0
while ARGV[at] do
  local c, once, record = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local key, first
  if once ~= '0' then
    local at_place, number = string.match(once, '^i([%d-]+):(%d+)$')
    if at_place then
      local one = place(at_place)
      if is_ingested(one) then
        first = '-'
      else
        ingested, ingested_last = one, at_place
      end
    end
    number = tonumber(number or once)
    if number > 0 and not first then
      key = KEYS[KEYS_NAMED + number]
      first = keys[key] or get(key)
    end
  end
  if first then
    repeats[#repeats + 1] = index .. '=' .. first
  else
    if c > 0 then
      if not top[c] and not find(c) then
        -- The place is lost, or no node wrote it. Without `run`, `fence.lua` begins a new epoch.
        redis.pcall('HDEL', places_key, ARGV[ARGV_NAMED + c])
        redis.pcall('HDEL', silent_key, ARGV[ARGV_NAMED + c])
        redis.call('HDEL', meta_key, 'run')
        return redis.error_reply('FENCED the place of a channel is lost')
      end
      top[c] = top[c] + 1
    end
    if histories[index] then
      local id = c > 0 and incarnation[c] .. '-' .. number(top[c])
      kept[#kept + 1] = {histories[index], id, record}
    end
    records[#records + 1] = record
    bytes = bytes + #record
    if key then
      keys[key] = c > 0 and e .. ':' .. incarnation[c] .. ':' .. number(top[c]) or '-'
    end
  end
  at, index = at + 3, index + 1
end

-- Begins a generation. Channels that were silent through the whole last one are forgotten. If there
-- are any, new channels have another incarnation from now on, so that no channel gets the same
-- positions twice.
local function turn()
  local counts = redis.call('HMGET', meta_key, 'p', 's')
  local text = redis.call('HGET', places_key, '')
  if not text then
    return
  end
  if counts[2] ~= '0' and counts[2] ~= '1' then
    text = string.gsub(text, '^%d+', function(last) return number(tonumber(last) + 1) end)
  end
  redis.call('UNLINK', silent_key)
  redis.call('RENAME', places_key, silent_key)
  redis.call('HSET', places_key, '', text)
  redis.call('HSET', meta_key, 'p', 1, 's', counts[1] or 0, 't', number(ms))
end

if #records > 0 then
  n = n + 1
  -- This is the first write: if Redis refuses it, nothing has changed.
  local entry = {'t', number(ms), 'c', table.concat(starts, ' '), 'd', table.concat(records)}
  if seq == 1 then
    entry[7], entry[8] = 'p', publisher
  end
  local added = redis.pcall('XADD', stream_key, e .. '-' .. number(n), unpack(entry))
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'equal or smaller') then
      return redis.error_reply('FENCED the stream has an entry that no node wrote')
    end
    return added
  end
  if #order > 0 then
    local written = {}
    for _, c in ipairs(order) do
      written[#written + 1] = ARGV[ARGV_NAMED + c]
      written[#written + 1] = incarnation[c] .. ':' .. number(top[c])
    end
    redis.call('HSET', places_key, unpack(written))
  end
  if generation then
    if #woken > 0 then
      redis.call('HDEL', silent_key, unpack(woken))
      redis.call('HINCRBY', meta_key, 's', -#woken)
    end
    redis.call('HINCRBY', meta_key, 'p', begun + #woken)
  end
  if ms < began then
    -- The clock was set back. Silent channels keep their offsets longer than they have to.
    redis.call('HSET', meta_key, 't', number(ms))
  elseif ms - began >= tonumber(silent_millis) then
    turn()
  end
  for key, position in pairs(keys) do
    redis.call('SET', key, position, 'PX', idempotency_millis)
  end
  for _, one in ipairs(kept) do
    keep(unpack(one))
  end
  total = total + bytes
  local MARKS = 64
  local bytes_max = tonumber(stream_bytes_max)
  if total - marked >= bytes_max / MARKS then
    -- The stream is trimmed only at marks, so that counting its bytes costs almost nothing.
    marked = total
    local mark = e .. '-' .. number(n) .. ':' .. number(total)
    if type(redis.pcall('RPUSH', marks_key, mark)) == 'table' then
      redis.call('DEL', marks_key)
      redis.call('RPUSH', marks_key, mark)
    end
    mark = redis.call('LINDEX', marks_key, 0)
    while mark do
      local until_e, until_n, until_total = string.match(mark, '^(%d+)-(%d+):(%d+)$')
      if until_n and total - tonumber(until_total) < bytes_max then
        break
      end
      redis.call('LPOP', marks_key)
      redis.call('XTRIM', stream_key, 'MINID',
        (until_e or e) .. '-' .. number(tonumber(until_n or 0) + 1))
      mark = redis.call('LINDEX', marks_key, 0)
    end
  end
  redis.call('HSET', meta_key, 'n', number(n), 'b', number(total), 'cut', number(marked))
end
if ingested_last then
  redis.call('HSET', meta_key, 'i:' .. ingest_name, ingested_last)
end
for at, c in ipairs(order) do
  starts[at] = c .. '=' .. starts[at]
end
local bases = table.concat(starts, ' ')
repeats = table.concat(repeats, ' ')
-- If this batch is sent again, it gets the same reply.
redis.call('SET', publisher_key,
  batch .. ' ' .. e .. ' ' .. number(n) .. ' ' .. bases .. '|' .. repeats, 'PX', publisher_millis)
return {'ok', e, number(n), bases, repeats}
