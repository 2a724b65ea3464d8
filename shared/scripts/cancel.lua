#!lua flags=allow-oom
-- Takes a waiting picture back, or forgets one that has ended. What is running is left alone. An error in between is
-- repaired by whoever asks again: a cancelled job ends its record, and what is half forgotten has still ended.
-- WITH: jobs
-- KEYS: none
-- ARGV: id, ttl (s) of what remains
-- Answer: 'cancelled' | 'forgotten' | 'running' | 'missing'
local id, ttl = ARGV[1], tonumber(ARGV[2])
local key = PREDICTION .. id
local state = try('HGET', key, 'state')
if not state or state == 'forgotten' then return 'missing' end
local origin = try('HGET', JOB .. id, 'origin')

if is_open(state) then
  if origin and not cancel_job(id, origin, ttl) then return 'running' end
  redis.call('DEL', IMAGE .. id)
  local ended = {}
  end_record(id, 'cancelled', ttl, ended)
  announce(ended)
  return 'cancelled'
end

forget_job(id)
redis.call('DEL', IMAGE .. id, INPUT .. id)
leave_tombstone(key, id, ttl)
return 'forgotten'
