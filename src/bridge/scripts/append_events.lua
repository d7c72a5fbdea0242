-- KEYS: the stream. ARGV: most entries; then for each entry the number of its texts, and these.
local at = 2
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, at + 1, at + count))
  at = at + count + 1
end
return at
