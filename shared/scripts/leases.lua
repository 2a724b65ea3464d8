#!lua flags=allow-oom
-- Sorts out leases that have run out, before RQ's recovery looks at them. RQ takes each for a worker that has died; here
-- go those of jobs that never started (the claim ended with an error), that have ended, or that another worker has.
-- WITH: jobs
-- KEYS: none
-- ARGV: queue names
-- Answer: how many jobs went back to their queue
local returned = 0

for _, queue in ipairs(ARGV) do
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', 'rq:wip:' .. queue, '-inf', NOW)) do
    local id, execution = string.match(member, '^(.*):([^:]*)$')
    local status = id and try('HGET', JOB .. id, 'status')
    if status ~= 'started' or has_lease(id, queue) then
      if status == 'queued' then
        put_back(id, queue)
        returned = returned + 1
      end
      if id then
        redis.call('DEL', 'rq:execution:' .. member)
        try('ZREM', 'rq:executions:' .. id, execution)
      end
      redis.call('ZREM', 'rq:wip:' .. queue, member)
    end
  end
end
return returned
