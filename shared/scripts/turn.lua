#!lua flags=allow-oom
-- Whose turn it is to recover what others have dropped: one worker at a time, for a few seconds at most.
-- KEYS: none
-- ARG: step 'take' | 'end', worker, seconds after which a turn expires
-- Answer: 1 where the turn is, or was, this worker's; else 0
local holder = redis.call('GET', 'digitq:recovery')
if ARG.step == 'take' then
  if holder then return 0 end
  redis.call('SET', 'digitq:recovery', ARG.worker, 'EX', ARG.seconds)
  return 1
end
if holder ~= ARG.worker then return 0 end
redis.call('DEL', 'digitq:recovery')
return 1
