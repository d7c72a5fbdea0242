-- Renews a lease, if one is named, and reads all leases.
--
-- KEYS  the leases
-- ARGV  a lease to renew or '', milliseconds for which it is renewed
-- Returns the leases that hold, the expired ones, and 1 if the renewed one did not exist before.
local leases = KEYS[1]
local lease, millis = unpack(ARGV)
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local new = 0
if lease ~= '' then
  new = redis.call('ZADD', leases, string.format('%.0f', now + tonumber(millis)), lease)
end
now = string.format('%.0f', now)
return {
  redis.call('ZRANGEBYSCORE', leases, '(' .. now, '+inf'),
  redis.call('ZRANGEBYSCORE', leases, '-inf', now),
  new,
}
