-- Appends an entry to a stream of requests or answers, and removes entries that are too old.
--
-- KEYS  the stream
-- ARGV  maximum entries, milliseconds for which they are kept, then names and values of the entry
local stream = KEYS[1]
local entries_max, ttl_millis = unpack(ARGV, 1, 2)
local ARGV_NAMED = 2
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('XTRIM', stream, 'MINID', string.format('%.0f', now - tonumber(ttl_millis)))
local id = redis.call('XADD', stream, 'MAXLEN', '~', entries_max, '*', unpack(ARGV, ARGV_NAMED + 1))
redis.call('PEXPIRE', stream, ttl_millis)
return id
