-- Claims a lease that has expired, so that only one node reports the end of the lost node.
--
-- KEYS  the leases
-- ARGV  a lease, its name once it is claimed, milliseconds for which the claim lasts
-- Returns 1 if the lease is claimed.
local leases = KEYS[1]
local lease, claimed, millis = unpack(ARGV)
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ends = redis.call('ZSCORE', leases, lease)
if not ends or tonumber(ends) > now then
  return 0
end
redis.call('ZREM', leases, lease)
redis.call('ZADD', leases, string.format('%.0f', now + tonumber(millis)), claimed)
return 1
