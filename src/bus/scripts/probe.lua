-- Checks whether the server that replies would append a batch to one stream of the bus. It uses the
-- commands and keys of an append, and leaves the stream as it is.
--
-- KEYS  those of `ProbeKeys`
-- Returns {the server's run_id, epoch, n, maxmemory-policy or ''}, or the error of an append.
local KEYS_NAMED, stream_key, meta_key, probe_key =
  3, unpack(KEYS, 1, 3)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local meta = redis.call('HMGET', meta_key, 'run', 'e', 'n')
if meta[1] ~= run or not (meta[2] and meta[3]) then
  return redis.error_reply('FENCED the stream belongs to another process')
end
-- No entry has such a low id, so the stream refuses this one. Before that, the server decides
-- whether it accepts writes at all.
local added = redis.pcall('XADD', stream_key, 'NOMKSTREAM', '0-1', 'p', '')
if type(added) == 'table' and added.err and not string.find(added.err, 'equal or smaller') then
  return added
end
-- Every other command of an append, because a user of Redis may lack one that is needed once a
-- month. They leave nothing behind.
local key = probe_key
for _, command in ipairs({
  {'SET', key, '', 'PX', '60000'}, {'HSET', meta_key, 'n', meta[3]}, {'GET', key},
  {'PEXPIRE', key, '60000'}, {'RENAME', key, key}, {'UNLINK', key}, {'HINCRBY', key, '', '0'},
  {'HLEN', key}, {'HGET', key, ''}, {'HDEL', key, ''}, {'RPUSH', key, ''}, {'LINDEX', key, '0'},
  {'LPOP', key}, {'XTRIM', key, 'MINID', '0'}, {'XRANGE', key, '-', '-'}, {'DEL', key},
}) do
  local done = redis.pcall(unpack(command))
  if type(done) == 'table' and done.err then
    return done
  end
end
local policy = string.match(redis.call('INFO', 'memory'), 'maxmemory_policy:(%S+)')
return {run, meta[2], meta[3], policy or ''}
