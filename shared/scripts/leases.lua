#!lua flags=allow-oom
-- Removes expired leases before RQ's recovery takes each for a worker that has died: those of jobs that never started (the
-- claim ended with an error), that have ended, or that another worker holds.
-- KEYS: none
-- ARG: queues
-- Answer: how many jobs went back to their queue
local returned, over = 0, {}
for _, queue in ipairs(ARG.queues) do
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', WIP .. queue, '-inf', NOW)) do
    local id = string.match(member, '^(.*):[^:]*$')
    local job = id and try('HMGET', JOB .. id, 'status', 'digitq_run') or {}
    if job[1] ~= 'started' or has_lease(id, queue, job[2]) then
      append(over, {queue = queue, member = member, id = job[1] == 'queued' and id})
    end
  end
end
for _, one in ipairs(over) do
  if one.id then
    put_back(one.id, one.queue)
    returned = returned + 1
  end
  redis.call('ZREM', WIP .. one.queue, one.member)
end
return returned
