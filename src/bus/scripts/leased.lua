-- Runs a command only for the holder of a lease. A node that was stopped for a while must not read
-- entries that another node reads by now.
--
-- KEYS  1 lease, 2 the key that the command uses
-- ARGV  1 the holder's token, then the command with its arguments
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('UNLEASED another node has the lease')
end
return redis.pcall(unpack(ARGV, 2))
