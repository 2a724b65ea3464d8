#!lua flags=allow-oom
-- Puts claims back that were never started on, or a chunk between two slices: to the front of their queue, in their order, as
-- if not claimed. The lease goes last: what an error leaves queued under it is put back by leases.lua.
-- KEYS: none
-- ARG: columns queue, id, execution
-- Answer: how many were still held and are waiting again
local claims, released = rows(), {}
for i = #claims, 1, -1 do
  local one = claims[i]
  one.member = one.id .. ':' .. one.execution
  local job = held(one.queue, one.member, 0) and try('HMGET', JOB .. one.id, 'status', 'digitq_run')
  if job and job[1] then
    one.attempt = math.max(0, run_of(job[2]) - 1)
    one.chunk = try('HMGET', RESULTS .. one.id, 'state', 'attempt')
    append(released, one)
  end
end

for _, one in ipairs(released) do
  if one.chunk and one.chunk[1] == 'running' then
    one.attempt = math.max(0, (tonumber(one.chunk[2]) or 0) - 1)
    redis.call('HSET', RESULTS .. one.id, 'state', 'queued', 'attempt', one.attempt)
    redis.call('HDEL', RESULTS .. one.id, 'suspect')
  end
  -- Without a start it does not look like a job that has taken a worker down; one that may have keeps it.
  redis.call('HSET', JOB .. one.id, 'status', 'queued', 'digitq_run', one.attempt .. ':',
    unpack(one.attempt == 0 and {'started_at', '', 'worker_name', ''} or {}))
  redis.call('LPUSH', QUEUE .. one.queue, one.id)
  redis.call('ZREM', WIP .. one.queue, one.member)
end
return #released
