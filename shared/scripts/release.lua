#!lua flags=allow-oom
-- Gives claims back that were never started on, or a chunk between two pictures: to the front of their queue, in their order, as if not claimed.
-- KEYS: none
-- ARGV: worker name, then queue, id, execution for each claim
-- Answer: how many were still held and are waiting again
local worker, released = ARGV[1], 0
for i = #ARGV - 2, 2, -3 do
  local queue, id, execution = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local member = id .. ':' .. execution
  if held(queue, member, 0) then
    redis.call('ZREM', 'rq:wip:' .. queue, member)
    redis.call('DEL', 'rq:execution:' .. member, 'rq:executions:' .. id)
    redis.call('SREM', 'rq:worker:' .. worker .. ':executions', member)
    redis.call('HSET', JOB .. id, 'status', 'queued')
    local attempt = 0
    for _, key in ipairs({PREDICTION .. id, RESULTS .. id}) do
      if redis.call('HGET', key, 'state') == 'running' then
        redis.call('HSET', key, 'state', 'queued')
        redis.call('HDEL', key, 'started_at', 'suspect')
        attempt = redis.call('HINCRBY', key, 'attempt', -1)
      end
    end
    -- Without a start it does not look like a job that has taken a worker down; one that may have keeps it.
    if attempt == 0 then redis.call('HDEL', JOB .. id, 'started_at', 'worker_name') end
    redis.call('LPUSH', 'rq:queue:' .. queue, id)
    released = released + 1
  end
end
return released
