#!lua flags=allow-oom
-- Runs RQ commands that Redis has refused because its memory is full, all in one step: they end accepted pictures.
-- KEYS: none
-- ARG: nothing; then for each command the number of its words, and the words
-- Answer: the reply to each
local answers, i = {}, 2
while i <= #ARGV do
  local last = i + tonumber(ARGV[i])
  answers[#answers + 1] = redis.call(unpack(ARGV, i + 1, last))
  i = last + 1
end
return answers
