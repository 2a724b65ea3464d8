#!lua flags=allow-oom
-- Whose turn it is to recover what others have dropped: one worker at a time, for a few seconds at most.
-- KEYS: none
-- ARGV: 'take' | 'end', worker name, seconds after which a turn ends by itself
-- Answer: 1 where the turn is, or was, this worker's; else 0
local holder = redis.call('GET', 'digitq:recovery')
if ARGV[1] == 'take' then
  if holder then return 0 end
  redis.call('SET', 'digitq:recovery', ARGV[2], 'EX', ARGV[3])
  return 1
end
if holder ~= ARGV[2] then return 0 end
redis.call('DEL', 'digitq:recovery')
return 1
