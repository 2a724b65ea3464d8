#!lua flags=allow-oom
-- Gives claims back that were never started on, or a chunk between two pictures: to the front of their queue, in their order, as if not claimed.
-- The lease goes last: what an error leaves queued under it is put back by leases.lua.
-- WITH: jobs
-- KEYS: none
-- ARGV: worker name, then queue, id, execution for each claim
-- Answer: how many were still held and are waiting again
local worker, released = ARGV[1], 0

-- Sets the record of a picture or a chunk back. Returns the attempts that are left of it.
local function set_back(key)
  local so_far = try('HMGET', key, 'state', 'attempt')
  if not so_far or so_far[1] ~= 'running' then return 0 end
  local attempt = math.max(0, (tonumber(so_far[2]) or 0) - 1)
  redis.call('HSET', key, 'state', 'queued', 'attempt', attempt)
  redis.call('HDEL', key, 'started_at', 'suspect')
  return attempt
end

for i = #ARGV - 2, 2, -3 do
  local queue, id, execution = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local member = id .. ':' .. execution
  if held(queue, member, 0) and try('HEXISTS', JOB .. id, 'status') == 1 then
    local attempt = math.max(set_back(PREDICTION .. id), set_back(RESULTS .. id))
    -- Without a start it does not look like a job that has taken a worker down; one that may have keeps it.
    redis.call('HSET', JOB .. id, 'status', 'queued', unpack(attempt == 0 and {'started_at', '', 'worker_name', ''} or {}))
    redis.call('DEL', 'rq:execution:' .. member, 'rq:executions:' .. id)
    redis.call('LPUSH', 'rq:queue:' .. queue, id)
    redis.call('ZREM', 'rq:wip:' .. queue, member)
    redis.call('SREM', 'rq:worker:' .. worker .. ':executions', member)
    released = released + 1
  end
end
return released
