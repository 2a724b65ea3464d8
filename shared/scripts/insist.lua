#!lua flags=allow-oom
-- Runs RQ's commands in one step, as MULTI and EXEC do, but also where memory is full, since they end accepted pictures; and only
-- while its fence holds, if it has one: as long as a worker stands still, another may take its job or its turn.
-- KEYS: none
-- ARG: for the fence of a job: queue, member, margin (s); for that of recovery: turn (the worker that has it); then for each
--   command the number of its words, and the words
-- Answer: the reply to each, or its error; nil where the fence does not hold, and then nothing was run
if ARG.member and not held(ARG.queue, ARG.member, ARG.margin) then return nil end
-- Where the turn has expired, nobody may have taken it.
if ARG.turn and (redis.call('GET', 'digitq:recovery') or ARG.turn) ~= ARG.turn then return nil end
local answers, i = {}, 2
while i <= #ARGV do
  local last = i + tonumber(ARGV[i])
  answers[#answers + 1] = redis.pcall(unpack(ARGV, i + 1, last))
  i = last + 1
end
return answers
