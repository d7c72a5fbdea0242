-- Reads where streams of the bus end, according to the server that replies.
--
-- KEYS  meta of each stream
-- Returns {the server's run_id, then epoch and n of each stream}.
local answer = {string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')}
for at, key in ipairs(KEYS) do
  local meta = redis.call('HMGET', key, 'e', 'n')
  answer[2 * at], answer[2 * at + 1] = meta[1], meta[2]
end
return answer
