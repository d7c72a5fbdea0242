-- Carries out a command for whoever holds a lease, and for nobody else: a node that was stopped for
-- a while must not read what another one reads by now.
--
-- KEYS  1 lease, 2 what the command is about
-- ARGV  1 the holder's token, then the command with its arguments
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('UNLEASED another node has the lease')
end
return redis.pcall(unpack(ARGV, 2))
