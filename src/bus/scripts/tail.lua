-- Where streams of the bus end, by the server that answers.
--
-- KEYS  meta of each
-- Answers {the server's run_id, then epoch and n of each}.
local answer = {string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')}
for at, key in ipairs(KEYS) do
  local meta = redis.call('HMGET', key, 'e', 'n')
  answer[2 * at], answer[2 * at + 1] = meta[1], meta[2]
end
return answer
