-- KEYS: leases. ARGV: a lease to renew or '', for how many milliseconds.
-- Answers the leases that hold, those that have run out, and 1 if the renewed one was not there.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local new = 0
if ARGV[1] ~= '' then
  new = redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
end
now = string.format('%.0f', now)
return {
  redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf'),
  redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now),
  new,
}
