-- Makes sure that one stream of the bus belongs to the server that answers: another process than
-- the last time (a restart, a promoted replica) begins a new epoch, for what it has may not be what
-- the other one acknowledged.
--
-- KEYS  1 stream, 2 meta, 3 marks
-- ARGV  1 the highest epoch that the caller has seen
-- Answers {epoch, n, "same" or "new", the server's run_id}.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta = redis.call('HMGET', KEYS[2], 'run', 'e', 'n', 'b', 'm')
local seen = tonumber(ARGV[1])
local last_e, last_n = 0, 0
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if not info.err then
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then
      local e, n = string.match(info[at + 1], '^(%d+)-(%d+)$')
      last_e, last_n = tonumber(e), tonumber(n)
    end
  end
end
local e, n = tonumber(meta[2] or nil), tonumber(meta[3] or nil)
local whole = e and n and tonumber(meta[4] or nil) and tonumber(meta[5] or nil)
if meta[1] == run and whole then
  -- Above it there is what no node wrote, if anything.
  if e >= seen and (last_e < e or last_e == e and last_n <= n) then
    return {meta[2], meta[3], 'same', run}
  end
end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local EPOCH_MAX = 2 ^ 52
if last_e > EPOCH_MAX then
  -- No time makes such an id, and nothing could follow it.
  redis.call('DEL', KEYS[1])
  last_e = 0
end
-- The stream may know of an epoch that meta has lost, and takes no lower one.
e = math.max(ms * 1024, seen, e or 0, last_e)
-- Two servers that don't know of each other must not begin the same epoch.
e = string.format('%.0f', e + 1 + tonumber(string.sub(run, 1, 4), 16) % 1024)
local ingested = {}
local all = redis.call('HGETALL', KEYS[2])
for at = 1, #all, 2 do
  if string.sub(all[at], 1, 2) == 'i:' then
    ingested[#ingested + 1] = all[at]
    ingested[#ingested + 1] = all[at + 1]
  end
end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('HSET', KEYS[2], 'run', run, 'e', e, 'n', '0', 'b', '0', 'm', '0', unpack(ingested))
redis.call('XTRIM', KEYS[1], 'MINID', e .. '-0')
return {e, '0', 'new', run}
